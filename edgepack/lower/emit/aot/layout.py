"""Where a model's weights are while it runs, and what is computed when it is loaded.

Most weights are in the weights file as kernels read them: those that are not coded there are used in place, where the file
is mapped; the others are decoded into a block of memory of the model's own. Some are computed when the model is loaded,
from stored ones that are in memory only until then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgepack.lower.emit.aot.plan import ALIGNMENT, Arena, arena_of
from edgepack.lower.emit.aot.program import COPY, Buffer, KernelCall, Program
from edgepack.weightfile.file import PackedWeights

_LARGE = 1 << 16  # bytes of a weight that is decoded only when it is needed, and forgotten then


@dataclass(frozen=True)
class PlacedWeight:
    """A weight of the file: its bytes once it is decoded, and where it is put.

    ``place`` is an offset in the block of memory; ``in place`` is where the file is mapped, ``later`` where a call that
    needs it fetches it.
    """

    size: int
    place: int | None
    when: str = "at once"


@dataclass(frozen=True)
class WeightLayout:
    """Sizes and offsets are in bytes.

    Attributes:
        kept: of each parameter of ``main`` that is a weight: the number of a stored one, or None; and an offset in the
            block of memory, if it is none.
        stored: the weights of the file.
        size: of all weights, as kernels read them.
        own: of the block of memory.
        own_at_load: of that block with what is behind it, needed while loading.
        decoding: the calls that compute weights.
        arena: for what these calls compute in between, and for what they fetch.
    """

    kept: tuple[tuple[int | None, int], ...]
    stored: tuple[PlacedWeight, ...]
    size: int
    own: int
    own_at_load: int
    decoding: tuple[KernelCall, ...]
    arena: Arena


def lay_out(weights: Sequence[int], loader: Program | None, file: PackedWeights | None) -> WeightLayout:
    """Place weights of these sizes, which ``loader`` computes from what the file has; without it there are none."""
    if loader is None or file is None:
        return WeightLayout((), (), sum(weights), 0, 0, (), arena_of(()))
    sources = _sources(loader)  # of the weights that are stored as they are
    in_place = _in_place(file)
    later = {number for number in _apart(loader, sources) if number not in in_place} & _large(file)
    memory = _Memory()
    homes = {number: memory.take(loader.inputs[number]) for number in sorted({*sources.values()} - in_place)}
    kept: list[tuple[int | None, int]] = []
    for number, size in enumerate(weights):
        source = sources.get(number)
        kept.append((source, 0) if source is not None else (None, memory.take(size)))
    own = memory.end
    homes |= {
        number: memory.take(loader.inputs[number])
        for number in _apart(loader, sources)
        if number not in in_place | later
    }
    stored = [
        PlacedWeight(
            size,
            homes.get(number),
            "in place" if number in in_place else "later" if number in later else "at once",
        )
        for number, size in enumerate(loader.inputs)
    ]
    decoding = tuple(_with_room(call, later) for call in loader.calls if not _copies(call))
    return WeightLayout(
        kept=tuple(kept),
        stored=tuple(stored),
        size=sum(-(-size // ALIGNMENT) * ALIGNMENT for size in weights),
        own=own,
        own_at_load=memory.end,
        decoding=decoding,
        arena=arena_of(decoding),
    )


class _Memory:
    """A block of memory from which pieces are taken in a row."""

    def __init__(self) -> None:
        self.end = 0

    def take(self, size: int) -> int:
        """Return the offset of a piece."""
        place = self.end
        self.end += -(-size // ALIGNMENT) * ALIGNMENT
        return place


def _sources(loader: Program) -> dict[int, int]:
    """Return the stored weight of each weight that is a copy of one."""
    copies = (call.buffers for call in loader.calls if _copies(call))
    return {target.number: source.number for source, target in copies}


def _apart(loader: Program, sources: dict[int, int]) -> list[int]:
    """Return the stored weights that are needed only while loading."""
    return [number for number in range(len(loader.inputs)) if number not in sources.values()]


def _in_place(file: PackedWeights) -> set[int]:
    """Return the weights that are in the file as in memory, and aligned."""
    found = set()
    for number, tensor in enumerate(file.tensors):
        block = file.index.blocks[tensor.block]
        if not block.coded and (block.offset + tensor.place) % ALIGNMENT == 0:
            found.add(number)
    return found


def _large(file: PackedWeights) -> set[int]:
    """Return the weights that are large enough to be fetched, each alone in its block."""
    blocks = [tensor.block for tensor in file.tensors]
    return {
        number
        for number, tensor in enumerate(file.tensors)
        if tensor.raw_bytes >= _LARGE and blocks.count(tensor.block) == 1
    }


def _copies(call: KernelCall) -> bool:
    """Whether a call copies a stored weight, which is used where it is instead."""
    return call.kernel == COPY and call.buffers[0].kind == "input"


def _with_room(call: KernelCall, later: set[int]) -> KernelCall:
    """Return a call whose fetched weights are buffers of the arena."""
    buffers = (
        Buffer("fetched", each.number, each.size) if each.kind == "input" and each.number in later else each
        for each in call.buffers
    )
    return replace(call, buffers=tuple(buffers))
