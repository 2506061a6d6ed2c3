"""Choosing register tiles for kernels nobody tuned, by counting instructions.

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
LOAD_COST = 1 / 8  # cycles a load costs besides its slot: prefers the tile with more reuse
GATHER = 2  # instructions for an element that does not lie beside the others: load or store, and its address
UNROLLED = 256  # vector instructions of a reduction's body written out; more only costs compile time
MAX_VECTOR = 64  # elements; LLVM splits longer vectors anyway


@dataclass(frozen=True)
class Machine:
    """A CPU as the tile model sees it.

    Attributes:
        vector_bytes: size of a vector register.
        registers: how many there are.
        cores: how many of them a kernel may use.
        multiply_add: instructions of ``a += b * c`` on vectors: 1 if they are one, 2 with a multiplication apart, 3 with
            a copy of what that overwrites.
        broadcast: instructions from one element in memory to a vector of it.
        features: instructions it has, as targets name them.
    """

    vector_bytes: int
    registers: int
    cores: int
    multiply_add: int = 1
    broadcast: int = 1
    features: frozenset[str] = frozenset()

    def lanes(self, element_bytes: int) -> int:
        """Elements in a vector register."""
        return max(1, self.vector_bytes // element_bytes)


@dataclass(frozen=True)
class Pieces:
    """How ``count * lanes`` neighbouring elements lie in vectors: loads and registers they take."""

    count: int
    lanes: int
    registers: int
    loads: int


@dataclass(frozen=True)
class Operand:
    """How a tile reads an operand: does it change along the vector, along the unrolled axis."""

    along_vector: bool
    along_unroll: bool
    contiguous: bool = True  # along the vector
    widening: int = 0  # instructions that make a loaded vector what is multiplied


@dataclass(frozen=True)
class Tile:
    """A register tile: extents along the vectorised and the unrolled axis, and its estimated cost."""

    pieces: Pieces
    unroll: int
    cycles: float  # per output element

    @property
    def vector(self) -> int:
        """Elements along the vectorised axis."""
        return self.pieces.count * self.pieces.lanes

    @property
    def unrolled_steps(self) -> int:
        """Steps of the reduction that may be written out."""
        return UNROLLED // (self.pieces.registers * self.unroll)


def machine(target: Target) -> Machine:
    """The CPU of a target: AVX-512 and NEON have 32 vector registers, older x86 16.

    x86 multiplies and adds in one with FMA only, and has three operands and loads that broadcast from AVX on.
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
    """Cut ``extent`` elements into equal vectors.

    Args:
        extent: Elements side by side.
        lanes: Elements in a register.
        carried: Whether a loop carries the vectors. LLVM keeps an odd vector longer than a register in scalars
            from one iteration to the next, but splits it well within straight-line code.
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
    """The cheapest tile for axes of the given extents.

    Args:
        cpu: Registers and vector width.
        element_bytes: Size of an accumulator.
        vector: Extent of the axis to vectorise.
        unroll: Extent of the axis to unroll.
        reduction: Steps of the reduction.
        operands: How the tile reads its inputs.
        contiguous_store: Whether outputs along the vector lie side by side in memory.
    """
    lanes = cpu.lanes(element_bytes)
    candidates = []
    for width in divisors(vector, MAX_VECTOR):
        for height in divisors(unroll, 16):
            shape = pieces(width, lanes, carried=False)
            if shape.registers * height * reduction > UNROLLED:
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
            candidates.append(Tile(shape, height, cycles))
    return min(candidates, key=lambda tile: tile.cycles)


def _loads(operand: Operand, shape: Pieces, width: int, height: int) -> int:
    vector = 1
    if operand.along_vector:
        vector = shape.loads if operand.contiguous else GATHER * width  # element by element
    return vector * (height if operand.along_unroll else 1)
