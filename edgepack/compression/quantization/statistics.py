"""Second moments of the inputs of layers, from which the error of a rounded weight is computed.

For a layer ``y = W x``, the squared error of the outputs over all samples is ``(W - Q) H (W - Q)ᵀ`` with
``H = Σ x xᵀ``; for a convolution, ``x`` is the patch under the filter.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base.progress import Progress
from edgepack.compression.quantization.feeds import Feed
from edgepack.compression.quantization.layers import WeightConstant, setting
from edgepack.onnxfile.sessions import open_session, run_session

if TYPE_CHECKING:
    import numpy as np

MAX_INPUTS = 4608
"""Largest number of a layer's inputs to each output for which moments are computed: 512 channels in 3x3."""
_AT_ONCE = 2**28  # bytes of moments to hold


@dataclass(frozen=True)
class Moments:
    """Moments of a layer's input.

    Attributes:
        second: mean of ``x xᵀ``, float64, ``[groups, inputs, inputs]``.
        first: mean of ``x``, float64, ``[groups, inputs]``.
    """

    second: "np.ndarray"
    first: "np.ndarray"


def moments(
    path: Path,
    layers: Sequence[WeightConstant],
    shapes: "Sequence[tuple[int, ...]]",
    feeds: Sequence[Feed],
    progress: Progress,
) -> Iterator[tuple[WeightConstant, Moments | None]]:
    """Yield each layer with the moments of its input; None if they cannot be computed (see :func:`can_measure`)."""
    measured = [
        (layer, _Patches(layer, shape))
        for layer, shape in zip(layers, shapes, strict=True)
        if can_measure(layer, shape)
    ]
    names = {layer.name for layer, _ in measured}
    yield from ((layer, None) for layer in layers if layer.name not in names)
    done = 0
    while done < len(measured):
        end, held = done, 0
        while end < len(measured) and (end == done or held + measured[end][1].bytes <= _AT_ONCE):
            held += measured[end][1].bytes
            end += 1
        part = measured[done:end]
        progress(f"inputs of {len(measured)} layers", done / len(measured))
        _collect(path, part, feeds)
        for layer, patches in part:
            yield layer, patches.moments()
            patches.clear()
        done = end


def can_measure(layer: WeightConstant, shape: tuple[int, ...]) -> bool:
    """Whether the layer is a matrix product with a constant matrix on its right, or a convolution in 1 or 2 dimensions."""
    if layer.operator == "Conv":
        return (
            len(shape) in {3, 4}
            and setting(layer.node, "auto_pad", b"NOTSET") == b"NOTSET"
            and math.prod(shape[1:]) <= MAX_INPUTS
        )
    matrix = len(shape) == 2 and layer.position == 1 and not setting(layer.node, "transA", 0)  # noqa: PLR2004
    return (
        matrix
        and layer.operator in {"Gemm", "MatMul"}
        and math.prod(shape) // shape[layer.axis] <= MAX_INPUTS
    )


def matrices(layer: WeightConstant, array: "np.ndarray") -> "np.ndarray":
    """Return a weight as ``[groups, outputs, inputs]``, in the order of the moments' inputs."""
    import numpy as np

    if layer.operator == "Conv":
        groups = setting(layer.node, "group", 1)
        found: np.ndarray = array.reshape(groups, array.shape[0] // groups, -1)
        return found
    return np.moveaxis(array, layer.axis, 0).reshape(1, array.shape[layer.axis], -1)


def from_matrices(layer: WeightConstant, found: "np.ndarray", shape: tuple[int, ...]) -> "np.ndarray":
    """Return ``[groups, outputs, inputs]`` in the weight's shape: the inverse of :func:`matrices`."""
    import numpy as np

    if layer.operator == "Conv":
        return found.reshape(shape)
    restored: np.ndarray = np.moveaxis(found[0], 0, layer.axis).reshape(shape)
    return restored


def _collect(path: Path, part: "Sequence[tuple[WeightConstant, _Patches]]", feeds: Sequence[Feed]) -> None:
    inputs = list(dict.fromkeys(layer.node.input[0] for layer, _ in part))
    given = {name for feed in feeds[:1] for name in feed}
    inner = [name for name in inputs if name not in given]
    session = open_session(path, also=inner)
    known = {value.name: number for number, value in enumerate(session.get_outputs())}
    for feed in feeds:
        outputs = run_session(session, feed, path)
        for layer, patches in part:
            name = layer.node.input[0]
            patches.add(feed[name] if name in feed else outputs[known[name]])


class _Patches:
    """Sums the moments of the inputs of one layer."""

    def __init__(self, layer: WeightConstant, shape: tuple[int, ...]) -> None:
        self._layer = layer
        self._kernel = shape[2:] if layer.operator == "Conv" else ()
        self._groups = setting(layer.node, "group", 1) if layer.operator == "Conv" else 1
        size = math.prod(shape[1:]) if layer.operator == "Conv" else math.prod(shape) // shape[layer.axis]
        self.bytes = 8 * self._groups * size * size
        self._size = size
        self.clear()

    def clear(self) -> None:
        """Forget everything that was added."""
        self._second: Any = None
        self._first: Any = None
        self._count = 0

    def add(self, value: "np.ndarray") -> None:
        """Add the inputs of one batch."""
        import numpy as np

        rows = self._rows(value)
        if self._second is None:
            self._second = np.zeros((self._groups, self._size, self._size))
            self._first = np.zeros((self._groups, self._size))
        self._second += np.matmul(rows.transpose(0, 2, 1), rows)
        self._first += rows.sum(axis=1, dtype=np.float64)
        self._count += rows.shape[1]

    def moments(self) -> Moments:
        """Return the means."""
        return Moments(self._second / self._count, self._first / self._count)

    def _rows(self, value: "np.ndarray") -> "np.ndarray":
        """Return the inputs to each output as ``[groups, positions, inputs]``."""
        import numpy as np
        import torch

        if not self._kernel:
            return np.ascontiguousarray(value, np.float32).reshape(1, -1, self._size)
        node, rank = self._layer.node, len(self._kernel)
        pads = list(setting(node, "pads", [0] * 2 * rank))
        image = torch.from_numpy(np.ascontiguousarray(value, np.float32))
        image = torch.nn.functional.pad(
            image, [pads[side * rank + axis] for axis in reversed(range(rank)) for side in (0, 1)]
        )
        flat = rank == 1
        unfolded = torch.nn.functional.unfold(
            image.unsqueeze(2) if flat else image,
            (1, *self._kernel) if flat else self._kernel,
            dilation=tuple([1] * flat + list(setting(node, "dilations", [1] * rank))),
            stride=tuple([1] * flat + list(setting(node, "strides", [1] * rank))),
        )  # [batch, channels * kernel, positions]
        split = unfolded.reshape(len(value), self._groups, self._size, -1)
        return np.ascontiguousarray(split.permute(1, 0, 3, 2).reshape(self._groups, -1, self._size).numpy())
