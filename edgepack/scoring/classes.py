"""Class scores in outputs of any shape, and the classes that they say."""

from typing import TYPE_CHECKING

from edgepack.data.splits import IGNORED
from edgepack.errors import InputError

if TYPE_CHECKING:
    import numpy as np

_SCORES = "let the model's output be [batch, classes], or [batch, classes, ...] or [batch, ..., classes] for targets of more axes"


def class_axis(outputs: tuple[int, ...], targets: tuple[int, ...]) -> int | None:
    """The axis of class scores in outputs of one shape for targets of another; None if the outputs have no such axis.

    Axis 1 as in torch, or the last one. Without an axis, one number a target is the logit of class 1 against class 0.

    Raises:
        InputError: the shapes do not fit.
    """
    if len(outputs) > 1 and (outputs[0], *outputs[2:]) == targets:
        return 1
    if outputs[:-1] == targets:
        return len(outputs) - 1
    if outputs == targets:
        return None
    if targets[1:2] == (1,) and len(targets) > 1:  # masks with an axis of channels
        return class_axis(outputs, (targets[0], *targets[2:]))
    raise InputError(
        f"a metric of classes needs one row of class scores per target; the output is {list(outputs)} "
        f"for targets of {list(targets)}",
        next=_SCORES,
    )


def class_scores(outputs: "np.ndarray", targets: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """Scores ``[N, M, classes]`` and classes ``[N, M]`` of M targets a sample.

    Raises:
        InputError: the shapes do not fit, or a target has no output.
    """
    import numpy as np

    axis = class_axis(outputs.shape, targets.shape)
    scores = outputs[..., None] if axis is None else np.moveaxis(outputs, axis, -1)
    classes = scores.shape[-1]
    if classes == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], axis=-1)
    require_outputs(targets, classes)
    count = len(targets)
    return scores.reshape(count, -1, scores.shape[-1]), targets.reshape(count, -1).astype(np.int64)


def require_outputs(targets: "np.ndarray", classes: int) -> None:
    """Check that there is a score for each of the targets.

    Raises:
        InputError: one has none.
    """
    kept = targets[targets != IGNORED]
    if kept.size and int(kept.max()) >= max(classes, 2):
        raise InputError(
            f"label {int(kept.max())} has no output: the model has {classes} classes",
            next="give the model's last layer one output per class",
        )


def predicted(outputs: "np.ndarray") -> "np.ndarray":
    """The classes ``[N, ...]`` that outputs say of which no targets are known.

    The class axis is axis 1 of ``[N, C]`` and of four axes or more, the last of three; ``[N]`` and ``[N, 1]`` are logits
    of class 1. A row with NaN has class -1.
    """
    import numpy as np

    tokens = 3
    scores = outputs[:, None] if outputs.ndim == 1 else outputs
    axis = 2 if scores.ndim == tokens else 1
    if scores.shape[axis] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], axis=axis)
    return np.where(np.isnan(scores).any(axis=axis), -1, scores.argmax(axis=axis))
