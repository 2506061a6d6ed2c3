"""The built-in metrics: what is counted of each sample, and the figure of the sums.

A metric of sums (rather than a mean over samples) is exact for F1, mIoU and SQNR, and its interval by bootstrap needs no
second look at the outputs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.data.splits import IGNORED
from edgepack.errors import InputError
from edgepack.scoring.classes import class_scores, predicted

if TYPE_CHECKING:
    import numpy as np

_TOP = 5
_MOST_DB = 150.0  # beyond what fp32 can tell apart


@dataclass(frozen=True)
class BuiltIn:
    """A built-in metric.

    Attributes:
        count: of outputs and targets, figures of each sample that add up: float64 ``[N, K]``.
        figure: the metric of sums ``[..., K]``.
        higher_is_better: whether a larger value is better.
        share: whether it is the share of right answers, with ``count`` giving right and all answers.
        of_source: whether the targets are the outputs of the source model.
    """

    count: "Callable[[np.ndarray, np.ndarray], np.ndarray]"
    figure: "Callable[[np.ndarray], np.ndarray]"
    higher_is_better: bool = True
    share: bool = False
    of_source: bool = False


def _right(outputs: "np.ndarray", targets: "np.ndarray", top: int) -> "np.ndarray":
    """Right answers and all answers of each sample; a row of scores with NaN is a wrong answer."""
    import numpy as np

    scores, wanted = class_scores(outputs, targets)
    kept = wanted != IGNORED
    if top == 1:
        right = scores.argmax(axis=-1) == wanted
    else:
        best = np.argsort(-scores, axis=-1, kind="stable")[..., :top]
        right = (best == wanted[..., None]).any(axis=-1)
    right &= kept & ~np.isnan(scores).any(axis=-1)
    return np.stack([right.sum(axis=1), kept.sum(axis=1)], axis=1).astype(np.float64)


def _accuracy(outputs: "np.ndarray", targets: "np.ndarray") -> "np.ndarray":
    return _right(outputs, targets, 1)


def _top5(outputs: "np.ndarray", targets: "np.ndarray") -> "np.ndarray":
    return _right(outputs, targets, _TOP)


def _share(sums: "np.ndarray") -> "np.ndarray":
    import numpy as np

    return np.asarray(sums[..., 0] / np.maximum(sums[..., 1], 1))


def _confusion(outputs: "np.ndarray", targets: "np.ndarray") -> "np.ndarray":
    """True positives, false positives and false negatives of each class: ``[N, 3 * classes]``."""
    import numpy as np

    scores, wanted = class_scores(outputs, targets)
    kept = wanted != IGNORED
    said = np.where(np.isnan(scores).any(axis=-1), -1, scores.argmax(axis=-1))
    parts = []
    for number in range(scores.shape[-1]):
        mine, theirs = (said == number) & kept, wanted == number
        parts += [(mine & theirs).sum(1), (mine & ~theirs).sum(1), (~mine & theirs).sum(1)]
    return np.stack(parts, axis=1).astype(np.float64)


def _over_classes(sums: "np.ndarray", right: float) -> "np.ndarray":
    """The mean of ``right * tp / (right * tp + fp + fn)`` over the classes that occur in targets or answers."""
    import numpy as np

    tp, wrong = sums[..., 0::3], sums[..., 1::3] + sums[..., 2::3]
    there = tp + wrong > 0
    each = right * tp / np.where(there, right * tp + wrong, 1)
    return np.asarray(each.sum(axis=-1) / np.maximum(there.sum(axis=-1), 1))


def _f1(sums: "np.ndarray") -> "np.ndarray":
    return _over_classes(sums, 2.0)


def _miou(sums: "np.ndarray") -> "np.ndarray":
    return _over_classes(sums, 1.0)


def _numbers(outputs: "np.ndarray", targets: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """Outputs and targets ``[N, M]``; axes of size 1 do not matter."""
    import numpy as np

    given, wanted = ([size for size in array.shape if size != 1] for array in (outputs[:1], targets[:1]))
    if given != wanted:
        raise InputError(
            f"an output of a sample is {list(outputs.shape[1:])}, its target {list(targets.shape[1:])}",
            next="give targets of the output's shape; class numbers have to be integers",
        )
    count = len(outputs)
    return outputs.reshape(count, -1).astype(np.float64), targets.reshape(count, -1).astype(np.float64)


def _distance(power: int) -> "Callable[[np.ndarray, np.ndarray], np.ndarray]":
    def count(outputs: "np.ndarray", targets: "np.ndarray") -> "np.ndarray":
        import numpy as np

        given, wanted = _numbers(outputs, targets)
        off = np.abs(given - wanted) ** power
        return np.stack([off.sum(axis=1), np.full(len(off), off.shape[1], np.float64)], axis=1)

    return count


def _signal_and_noise(outputs: "np.ndarray", source: "np.ndarray") -> "np.ndarray":
    import numpy as np

    given, wanted = _numbers(outputs, source)
    return np.stack([(wanted**2).sum(axis=1), ((given - wanted) ** 2).sum(axis=1)], axis=1)


def _decibels(sums: "np.ndarray") -> "np.ndarray":
    """``10 log10(signal / noise)``, at most 150 dB: equal to the last bit of fp32."""
    import numpy as np

    signal, noise = np.maximum(sums[..., 0], 1e-300), sums[..., 1]
    least = signal * 10 ** (-_MOST_DB / 10)
    return np.asarray(10 * np.log10(signal / np.where(noise < least, least, noise)))


def _agreeing(outputs: "np.ndarray", source: "np.ndarray") -> "np.ndarray":
    import numpy as np

    same = (predicted(outputs) == predicted(source)).reshape(len(outputs), -1)
    return np.stack([same.sum(axis=1), np.full(len(same), same.shape[1])], axis=1).astype(np.float64)


METRICS: dict[str, BuiltIn] = {
    "accuracy": BuiltIn(_accuracy, _share, share=True),
    "top5": BuiltIn(_top5, _share, share=True),
    "f1": BuiltIn(_confusion, _f1),
    "miou": BuiltIn(_confusion, _miou),
    "mse": BuiltIn(_distance(2), _share, higher_is_better=False),
    "mae": BuiltIn(_distance(1), _share, higher_is_better=False),
    "sqnr": BuiltIn(_signal_and_noise, _decibels, of_source=True),
    "agreement": BuiltIn(_agreeing, _share, share=True, of_source=True),
}
"""By name; accuracy, top5, f1 (macro), miou and agreement are from 0 to 1, sqnr in dB."""
