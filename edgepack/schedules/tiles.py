"""Choose register tiles for untuned kernels by counting instructions.

A register tile is a rectangle of outputs kept in vector registers over the whole reduction: ``vector`` elements
along one axis, ``unroll`` along another. Each step of the reduction loads the tile's inputs and issues its
multiply-adds; ``cycles`` counts both, as BLIS's analytical model does (Low et al., "Analytical Modeling Is
Enough for High-Performance BLIS", 2016), plus the stores at the end.
"""

from dataclasses import dataclass

from edgepack.config.target import Target

STACK_BYTES = 1023  # TVM keeps smaller buffers on the stack, where LLVM turns them into registers
FMA_LATENCY = 4  # cycles; with two pipes, eight independent accumulators hide it
PIPES = 2
LOAD_COST = 1 / 8  # cycles per load in addition to its slot: prefers the tile with more reuse
GATHER = 2  # instructions per non-contiguous element: load or store, and its address
UNROLLED = 256  # maximum vector instructions of an unrolled reduction body; more only increases compile time
GATHERED = 576  # maximum elements gathered in one, a 3x3 window of the longest vector: LLVM's time grows with the square
MAX_VECTOR = 64  # elements; LLVM splits longer vectors anyway


@dataclass(frozen=True)
class Machine:
    """Model of a CPU for choosing tiles.

    Attributes:
        vector_bytes: size of a vector register.
        registers: number of vector registers.
        cores: number of cores a kernel may use.
        multiply_add: instructions for ``a += b * c`` on vectors: 1 if fused, 2 with a separate multiplication, 3 with
            a copy of the overwritten operand.
        broadcast: instructions to broadcast one element in memory to a vector.
        features: supported instruction sets, as in targets.
    """

    vector_bytes: int
    registers: int
    cores: int
    multiply_add: int = 1
    broadcast: int = 1
    features: frozenset[str] = frozenset()

    def lanes(self, element_bytes: int) -> int:
        """Elements per vector register."""
        return max(1, self.vector_bytes // element_bytes)


@dataclass(frozen=True)
class Pieces:
    """Loads and registers needed for ``count * lanes`` contiguous elements."""

    count: int
    lanes: int
    registers: int
    loads: int


@dataclass(frozen=True)
class Operand:
    """How a tile reads an operand: whether it changes along the vector and along the unrolled axis."""

    along_vector: bool
    along_unroll: bool
    contiguous: bool = True  # along the vector
    widening: int = 0  # instructions to convert a loaded vector for the multiplication


@dataclass(frozen=True)
class Tile:
    """A register tile: extents along the vectorised and the unrolled axis, and its estimated cost."""

    pieces: Pieces
    unroll: int
    cycles: float  # per output element
    gathered: int = 0  # elements that are loaded one by one in each step of the reduction

    @property
    def vector(self) -> int:
        """Extent along the vectorised axis."""
        return self.pieces.count * self.pieces.lanes

    @property
    def unrolled_steps(self) -> int:
        """Number of reduction steps that may be unrolled."""
        return _steps(self.pieces.registers * self.unroll, self.gathered)


def _steps(instructions: int, gathered: int) -> int:
    return min(UNROLLED // instructions, GATHERED // max(1, gathered))


def machine(target: Target) -> Machine:
    """Return the model of a target's CPU: AVX-512 and NEON have 32 vector registers, older x86 16.

    x86 has fused multiply-add only with FMA, and three-operand instructions and broadcasting loads since AVX.
    """
    features = frozenset(target.cpu.features)
    arm = target.abi.arch == "aarch64"
    avx = arm or "avx" in features
    return Machine(
        vector_bytes=target.cpu.vector_bits // 8,
        registers=32 if arm or "avx512f" in features else 16,
        cores=target.cpu.cores,
        multiply_add=1 if arm or "fma" in features else 2 if avx else 3,
        broadcast=1 if avx else 2,
        features=features,
    )


def pieces(extent: int, lanes: int, *, carried: bool) -> Pieces:
    """Split ``extent`` elements into equal vectors.

    Args:
        extent: Number of contiguous elements.
        lanes: Elements per register.
        carried: Whether the vectors are loop-carried. LLVM keeps a loop-carried vector of odd length in scalars
            if it exceeds a register, but splits it well within straight-line code.
    """
    if extent % lanes == 0:
        return Pieces(extent // lanes, lanes, extent // lanes, extent // lanes)
    if not carried:
        full, rest = divmod(extent, lanes)
        return Pieces(1, extent, full + 1, full + rest.bit_count())
    count = next(n for n in divisors(extent, extent) if extent // n <= lanes)
    size = extent // count
    return Pieces(count, size, count, count * size.bit_count())


def divisors(extent: int, limit: int) -> list[int]:
    """The divisors of ``extent`` up to ``limit``."""
    return [n for n in range(1, min(extent, limit) + 1) if extent % n == 0]


def best_tile(
    cpu: Machine,
    element_bytes: int,
    *,
    vector: int,
    unroll: int,
    reduction: int,
    operands: tuple[Operand, ...],
    contiguous_store: bool,
) -> Tile:
    """Return the cheapest tile for axes of the given extents.

    Args:
        cpu: Registers and vector width.
        element_bytes: Size of an accumulator.
        vector: Extent of the axis to vectorise.
        unroll: Extent of the axis to unroll.
        reduction: Steps of the reduction.
        operands: How the tile reads its inputs.
        contiguous_store: Whether outputs along the vector are contiguous in memory.
    """
    lanes = cpu.lanes(element_bytes)
    candidates = []
    for width in divisors(vector, MAX_VECTOR):
        for height in divisors(unroll, 16):
            shape = pieces(width, lanes, carried=False)
            gathered = sum(_gathered(o, width, height) for o in operands)
            if reduction > _steps(shape.registers * height, gathered):
                shape = pieces(width, lanes, carried=True)
            registers = shape.registers * height
            if registers > cpu.registers - 4 or registers * cpu.vector_bytes > STACK_BYTES:
                continue
            each = [_loads(o, shape, width, height) for o in operands]
            loads = sum(each)
            shuffles = sum(
                (cpu.broadcast - 1) * count
                for o, count in zip(operands, each, strict=True)
                if not o.along_vector
            )
            widened = sum(o.widening * count for o, count in zip(operands, each, strict=True))
            arithmetic = registers * cpu.multiply_add + widened + shuffles
            step = max(arithmetic, loads) / PIPES + loads * LOAD_COST
            store = shape.loads * height if contiguous_store else GATHER * width * height
            cycles = (reduction * max(step, FMA_LATENCY) + store) / (width * height)
            candidates.append(Tile(shape, height, cycles, gathered))
    return min(candidates, key=lambda tile: tile.cycles)


def _loads(operand: Operand, shape: Pieces, width: int, height: int) -> int:
    if gathered := _gathered(operand, width, height):
        return GATHER * gathered
    return (shape.loads if operand.along_vector else 1) * (height if operand.along_unroll else 1)


def _gathered(operand: Operand, width: int, height: int) -> int:
    """Elements that a step loads one by one, because they are apart in memory."""
    if operand.contiguous or not operand.along_vector:
        return 0
    return width * (height if operand.along_unroll else 1)
