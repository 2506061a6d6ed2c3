"""Where a model's weights lie in memory: in one block, as its kernels read them; and what is needed while it is loaded.

Most weights are in the weights file as kernels read them, and are read to their place. The others are computed when the
model is loaded, from stored ones that have places of their own only until then.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.lower.emit.aot.plan import ALIGNMENT, Arena, arena_of
from edgepack.lower.emit.aot.program import COPY, KernelCall, Program


@dataclass(frozen=True)
class WeightLayout:
    """Offsets in bytes.

    Attributes:
        weights: of each parameter of ``main`` that is a weight, in the block of weights.
        size: of that block.
        stored: of each weight of the file: in the block of weights if it has that many bytes or fewer, else behind it.
        size_at_load: of the block of weights with everything behind it that is needed while loading.
        decoding: the calls that compute weights.
        arena: for what these calls compute in between.
    """

    weights: tuple[int, ...]
    size: int
    stored: tuple[int, ...]
    size_at_load: int
    decoding: tuple[KernelCall, ...]
    arena: Arena


def lay_out(weights: Sequence[int], loader: Program | None) -> WeightLayout:
    """Place weights of these sizes, which ``loader`` computes from what is stored; without it there are none."""
    offsets, end = _in_a_row(weights, 0)
    if loader is None:
        return WeightLayout(offsets, end, (), end, (), arena_of(()))
    copies = [call.buffers for call in loader.calls if call.kernel == COPY]
    homes: dict[int, int] = {}  # of the stored weights that are copied: where to
    for source, target in copies:
        if source.kind == "input":
            homes.setdefault(source.number, target.number)
    apart = [number for number in range(len(loader.inputs)) if number not in homes]
    behind, size_at_load = _in_a_row([loader.inputs[number] for number in apart], end)
    places = dict(zip(apart, behind, strict=True)) | {own: offsets[home] for own, home in homes.items()}
    decoding = tuple(call for call in loader.calls if not _is_home(call, homes))
    return WeightLayout(
        weights=offsets,
        size=end,
        stored=tuple(places[number] for number in range(len(loader.inputs))),
        size_at_load=size_at_load,
        decoding=decoding,
        arena=arena_of(decoding),
    )


def _is_home(call: KernelCall, homes: dict[int, int]) -> bool:
    """Whether a call copies a stored weight to the place that it is read to."""
    if call.kernel != COPY:
        return False
    source, target = call.buffers
    return source.kind == "input" and homes.get(source.number) == target.number


def _in_a_row(sizes: Sequence[int], start: int) -> tuple[tuple[int, ...], int]:
    """Return an offset for each size, one after the other, and what follows the last."""
    offsets, end = [], start
    for size in sizes:
        offsets.append(end)
        end += -(-size // ALIGNMENT) * ALIGNMENT
    return tuple(offsets), end
