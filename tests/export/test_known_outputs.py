"""Outputs that are known already are scored as those of another run of the model."""

import numpy as np
import onnx.parser
import pytest

from edgepack.export.reference import evaluated_outputs_of, predict_evaluated, run_onnx
from edgepack.scoring import Evaluation, Scorer


@pytest.fixture
def model(tmp_path):
    """Two outputs for a batch of 3, the second of which has no batch axis."""
    path = tmp_path / "m.onnx"
    parsed = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 18]> g (float[3, 2] x) => (float[3, 2] y, float[1, 2] z)'
        " <int64[1] axes = {0}> { y = Exp (x) z = ReduceSum <keepdims = 1> (x, axes) }"
    )
    onnx.save(parsed, path)
    return path


@pytest.mark.parametrize("whole", [False, True])
def test_outputs_of_batches_are_those_of_all_samples(model, whole):
    x = np.random.default_rng(0).standard_normal((4, 3, 2)).astype(np.float32)
    inputs = {"x": x if whole else x.reshape(12, 2)}
    evaluation = Evaluation(inputs, np.zeros(12), Scorer(), whole=whole)
    runs = [run_onnx(model, {"x": batch}) for batch in x]
    for ours, again in zip(
        evaluated_outputs_of(evaluation, runs), predict_evaluated(model, evaluation), strict=True
    ):
        np.testing.assert_array_equal(ours, again)
