"""A warning where an accuracy is no better than guessing: a drop from chance to chance passes any gate on the drop."""

from collections.abc import Iterator, Mapping
from math import sqrt
from typing import Any

_DEVIATIONS = 2  # standard deviations of a guess's accuracy
_CAP = 4  # of a few samples: at most this fraction of the way from chance to 1


def chance_warnings(row: Mapping[str, Any]) -> Iterator[str]:
    """The warning for a row's accuracy, on the board or else in onnxruntime, if there is one."""
    chance, where = row.get("chance"), "on the board"
    accuracy, samples = row.get("accuracy_board"), row.get("accuracy_samples")
    if accuracy is None:
        accuracy, samples, where = row.get("accuracy_onnxruntime"), None, "in onnxruntime"
    if chance is None or accuracy is None:
        return
    spread = _DEVIATIONS * sqrt(chance * (1 - chance) / samples) if samples else 0.0
    if accuracy <= chance + min(spread, (1 - chance) / _CAP):
        yield (
            f"accuracy {where} is {accuracy:.1%}, no better than chance: "
            f"always answering the most frequent class gives {chance:.1%}"
        )
