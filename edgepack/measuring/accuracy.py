"""Accuracy on the board, and parity of its outputs with onnxruntime's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from edgepack.errors import InputError
from edgepack.spec import Finite, Spec

if TYPE_CHECKING:
    import numpy as np


class BoardAccuracy(Spec):
    """Accuracy and parity on the board, over ``samples`` test samples."""

    samples: int = Field(ge=1)
    accuracy: Finite | None = Field(default=None, ge=0, le=1, description="None without labels.")
    parity: Finite | None = Field(default=None, ge=0, description="None where NaN or an infinity differs.")
    why: str | None = Field(default=None, description="Why a figure is missing.")


def parity(ours: np.ndarray, reference: np.ndarray) -> float | None:
    """The largest absolute difference over the largest absolute reference value: max|a-b| / max|b|.

    NaN and infinities must be at the same places, and only the other values are compared; None if they are not. The
    absolute difference if the reference is all 0.

    Raises:
        InputError: The shapes differ.
    """
    import numpy as np

    if ours.shape != reference.shape:
        raise InputError(f"outputs of shape {ours.shape} cannot be compared with {reference.shape}")
    if not ours.size:
        return 0.0
    a, b = ours.astype(np.float64), reference.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return None
    scale = float(np.abs(b[finite]).max(initial=0.0))
    return float(np.abs(a[finite] - b[finite]).max(initial=0.0)) / (scale or 1.0)


def worst_parity(ours: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float | None:
    """The largest ``parity`` over a model's outputs; None where NaN or an infinity differs.

    Raises:
        InputError: The number of outputs or a shape differs.
    """
    if len(ours) != len(reference):
        raise InputError(f"{len(ours)} outputs cannot be compared with {len(reference)}")
    each = [parity(a, b) for a, b in zip(ours, reference, strict=True)]
    known = [value for value in each if value is not None]
    return max(known, default=0.0) if len(known) == len(each) else None


def score(
    outputs: np.ndarray, *, labels: np.ndarray | None = None, reference: np.ndarray | None = None
) -> BoardAccuracy:
    """Accuracy and parity of a classifier's outputs.

    Args:
        outputs: (N, classes), any real dtype, from the board.
        labels: (N,) integers.
        reference: (N, classes), the same model in onnxruntime.

    Raises:
        InputError: No samples, or shapes that do not match.
    """
    import numpy as np

    if outputs.ndim != 2 or not len(outputs):  # noqa: PLR2004 - samples and classes
        raise InputError(f"a classifier's outputs are (samples, classes), not {outputs.shape}")
    if labels is not None and labels.shape != (len(outputs),):
        raise InputError(f"{len(outputs)} samples with labels of shape {labels.shape}")
    # A row with NaN has no class: argmax would return the index of the NaN. An infinity is larger or smaller than all.
    right = (
        (outputs.argmax(axis=1) == labels) & ~np.isnan(outputs).any(axis=1) if labels is not None else None
    )
    found = None if reference is None else parity(outputs, reference)
    why = None
    if reference is not None and found is None:
        whose = "the board's" if not np.isfinite(outputs).all() else "onnxruntime's"
        why = f"{whose} outputs hold NaN or infinity, and the others do not"
    return BoardAccuracy(
        samples=len(outputs),
        accuracy=None if right is None else float(right.mean()),
        parity=found,
        why=why,
    )
