"""The score of a model's outputs on the board, and their parity with onnxruntime's."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pydantic import Field

from edgepack.errors import InputError
from edgepack.scoring import Scorer, merge_batches
from edgepack.spec import Finite, Scored, Spec

if TYPE_CHECKING:
    import numpy as np

    from edgepack.data.splits import Arrays


class BoardAnswers(Spec):
    """Score and parity on the board, over ``samples`` inferences on test samples."""

    samples: int = Field(ge=1)
    score: Scored | None = Field(default=None, description="None without anything to compare with.")
    reference_score: Scored | None = Field(
        default=None, description="Of onnxruntime's outputs for the same samples."
    )
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


def judge(
    outputs: Sequence[np.ndarray],
    *,
    batch: int | None,
    scorer: Scorer,
    targets: Arrays = None,
    reference: Sequence[np.ndarray] = (),
) -> BoardAnswers:
    """Score and parity of a model's outputs.

    Args:
        outputs: of all samples, each (N, *shape), from the board.
        batch: The first axis of the model's first input; None if it has no axes.
        scorer: The metric.
        targets: (N * batch, ...), or several of them by name; None for no score.
        reference: the same outputs in onnxruntime; empty for no parity.

    Raises:
        InputError: No samples, or shapes that do not match.
    """
    import numpy as np

    if not outputs or not len(outputs[0]):
        raise InputError("there are no samples to compare")
    score, same, found, why = None, None, None, None
    if reference:
        found = worst_parity(outputs, reference)
        if found is None:
            ours = not all(np.isfinite(each.astype(np.float64)).all() for each in outputs)
            whose = "the board's" if ours else "onnxruntime's"
            why = f"{whose} outputs hold NaN or infinity, and the others do not"
    if targets is not None:
        try:
            score = scorer.score([merge_batches(each, batch) for each in outputs], targets)
        except InputError as error:
            if all(np.isfinite(each.astype(np.float64)).all() for each in outputs):
                raise
            why = error.message  # NaN: there is no figure
        if reference:
            with suppress(InputError):  # NaN
                same = scorer.score([merge_batches(each, batch) for each in reference], targets)
    return BoardAnswers(samples=len(outputs[0]), score=score, reference_score=same, parity=found, why=why)
