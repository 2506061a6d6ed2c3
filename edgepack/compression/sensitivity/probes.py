"""Changes to the weights of one layer, as compression makes them: fewer bits, zeros, a lower rank."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.spec.sensitivity import ProbeKind

if TYPE_CHECKING:
    import numpy as np

ChangeWeight = Callable[["np.ndarray", int], "np.ndarray"]
"""Maps a weight and the axis of its output channels to the changed weight, of the same shape and dtype."""


@dataclass(frozen=True)
class Edit:
    """A change to one layer: of its weights, of its input's precision, or of both."""

    weights: ChangeWeight | None = None
    activation_bits: int | None = None


@dataclass(frozen=True)
class Probe:
    """A change that is tried on every layer.

    Attributes:
        kind: what is changed.
        setting: bits for ``weights`` and ``activations``, the share of zeros for ``prune``, of the full rank for ``rank``.
    """

    kind: ProbeKind
    setting: float

    def edit(self) -> Edit:
        """Return the change to a layer."""
        if self.kind == "activations":
            return Edit(activation_bits=int(self.setting))
        if self.kind == "weights":
            return Edit(lambda weight, axis: rounded(weight, int(self.setting), axis))
        if self.kind == "prune":
            return Edit(lambda weight, _axis: pruned(weight, self.setting))
        return Edit(lambda weight, axis: truncated(weight, self.setting, axis))


PROBES = (
    Probe("weights", 8),
    Probe("weights", 4),
    Probe("weights", 3),
    Probe("weights", 2),
    Probe("activations", 8),
    Probe("activations", 6),
    Probe("activations", 4),
    Probe("prune", 0.5),
    Probe("prune", 0.75),
    Probe("prune", 0.9),
    Probe("rank", 0.5),
    Probe("rank", 0.25),
    Probe("rank", 0.125),
)
"""What a scan tries on each layer."""


def rounded(weight: "np.ndarray", bits: int, axis: int) -> "np.ndarray":
    """Round to symmetric integers of ``bits`` (at least 2) with one scale per index of ``axis``, and back."""
    import numpy as np

    top = 2 ** (bits - 1) - 1
    others = tuple(i for i in range(weight.ndim) if i != axis % weight.ndim)
    largest = np.abs(weight).max(axis=others, keepdims=True, initial=0)
    scale = np.where(largest > 0, largest / top, 1).astype(np.float64)
    return np.asarray((np.round(weight / scale) * scale).astype(weight.dtype))


def pruned(weight: "np.ndarray", ratio: float) -> "np.ndarray":
    """Set the share ``ratio`` of the weights, the smallest ones, to zero."""
    import numpy as np

    changed = weight.copy()
    smallest = np.argsort(np.abs(weight), axis=None, kind="stable")[: int(weight.size * ratio)]
    changed.reshape(-1)[smallest] = 0
    return changed


def truncated(weight: "np.ndarray", share: float, axis: int) -> "np.ndarray":
    """Keep the largest singular values, a share of them but at least one; the rows of the matrix are along ``axis``."""
    import numpy as np

    rows = np.moveaxis(weight, axis, 0)
    matrix = rows.reshape(len(rows), -1).astype(np.float64)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    kept = max(1, round(len(values) * share))
    product = (left[:, :kept] * values[:kept]) @ right[:kept]
    return np.ascontiguousarray(np.moveaxis(product.reshape(rows.shape), 0, axis).astype(weight.dtype))
