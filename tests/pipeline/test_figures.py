"""Metrics of a compression method are in the report as JSON values, or rejected by name."""

import numpy as np
import pytest

from edgepack.compression.low_rank import LowRank
from edgepack.errors import EdgepackError
from edgepack.pipeline.figures import StepFigures
from edgepack.spec import ModelFacts, Train

STEP = LowRank(method="low-rank", energy=0.9, fine_tune=Train(epochs=1, seed=5))


def test_tuples_and_numbers_as_keys_become_what_json_has():
    metrics = {"size": (2, 1), "by_layer": {3: [0.5]}, "note": "ok", "missing": None}
    found = StepFigures.of_step(STEP, "torch", metrics, ModelFacts(parameters=3))
    assert found.metrics == {"size": [2, 1], "by_layer": {"3": [0.5]}, "note": "ok", "missing": None}
    assert found.parameters == 3
    assert found.seeds == {"seed": 0, "fine_tune.seed": 5}
    assert StepFigures.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    "value", [float("nan"), [float("inf")], np.float32(1), {"a": np.zeros(2)}, b"x", {1, 2}]
)
def test_what_is_no_json_value_is_refused_by_name(value):
    with pytest.raises(EdgepackError, match="low-rank returned the metric 'loss' as") as caught:
        StepFigures.of_step(STEP, "torch", {"loss": value}, ModelFacts())
    assert "JSON values" in caught.value.why
    assert "Python numbers" in caught.value.next
