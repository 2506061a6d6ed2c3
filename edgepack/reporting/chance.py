"""A warning where an accuracy is no better than guessing: a drop from chance to chance passes any gate on the drop."""

from collections.abc import Iterator, Mapping
from math import sqrt
from typing import Any

from pydantic import TypeAdapter

from edgepack.spec import Scored

_SCORE: TypeAdapter[Any] = TypeAdapter(Scored)
_DEVIATIONS = 2  # standard deviations of a guess's accuracy
_CAP = 4  # of a few samples: at most this fraction of the way from chance to 1


def chance_warnings(row: Mapping[str, Any]) -> Iterator[str]:
    """The warning for a row's accuracy, on the board or else in onnxruntime, if there is one."""
    chance, where = row.get("chance"), "on the board"
    given, samples = row.get("score_board"), row.get("board_samples")
    if given is None:
        given, samples, where = row.get("score_onnxruntime"), None, "in onnxruntime"
    if chance is None or given is None:
        return
    score = _SCORE.validate_python(given)
    if score.metric != "accuracy":
        return
    spread = _DEVIATIONS * sqrt(chance * (1 - chance) / samples) if samples else 0.0
    if score.value <= chance + min(spread, (1 - chance) / _CAP):
        yield (
            f"accuracy {where} is {score.value:.1%}, no better than chance: "
            f"always answering the most frequent class gives {chance:.1%}"
        )
