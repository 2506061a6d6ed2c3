"""Samples with reference outputs: the recipe's or made up, and what is said of those that tell little."""

import numpy as np
import onnx.parser
import pytest

from edgepack.base.progress import silent
from edgepack.bundle.files import _telling_row
from edgepack.engine.stage import Work
from edgepack.errors import InputError
from edgepack.onnxfile.importing import model_inputs
from edgepack.pipeline.stages.evaluate import EvaluateSpec, EvaluateStage
from edgepack.pipeline.state import Resources
from edgepack.spec import Data


@pytest.fixture
def evaluated(tmp_path):
    """Evaluates a model with one input x [1, 4]; returns its figures and samples."""

    def run(body, outputs="float[1, 4] y", **recipe):
        model = onnx.parser.parse_model(
            f'<ir_version: 10, opset_import: ["" : 18]> g (float[1, 4] x) => ({outputs})'
            f" <float zero = {{0}}, float[1, 4] fixed = {{1, 2, 3, 4}}> {{ {body} }}"
        )
        path = tmp_path / "m.onnx"
        onnx.save(model, path)
        spec = EvaluateSpec(
            inputs=model_inputs(model), data=recipe.pop("data", None), original=None, **recipe
        )
        work = Work(spec, {"onnx": path}, tmp_path, Resources(tmp_path, None), silent)
        result = EvaluateStage().run(work)
        with np.load(result.files["samples"].path) as archive:
            return result.figures, dict(archive)

    return run


def test_made_up_samples_differ_and_need_no_warning(evaluated):
    figures, samples = evaluated("y = Exp (x)")
    assert (figures.samples, figures.warnings, figures.chance, figures.rounding) == (4, (), None, None)
    assert len({row.tobytes() for row in samples["output_0"]}) == 4


def test_outputs_that_never_change_are_named(evaluated):
    figures, _ = evaluated(
        "y = Mul (x, zero) a = Mul (x, zero) z = Add (a, fixed) k = Exp (x)",
        "float[1, 4] y, float[1, 4] z, float[1, 4] k",
    )
    (warning,) = figures.warnings
    assert warning.startswith("output y, z is the same for every made-up sample")


def test_outputs_that_are_never_numbers_end_the_run(evaluated):
    with pytest.raises(InputError, match="NaN, infinite or empty for every made-up sample: y") as caught:
        evaluated("a = Sub (x, x) y = Div (a, zero)")
    assert "samples: inputs.npz" in caught.value.next


def test_some_values_that_are_no_numbers_are_said(evaluated):
    figures, samples = evaluated(
        "a = Div (fixed, zero) b = Neg (x) y = Concat <axis = 1> (a, b)", "float[1, 8] y"
    )
    (warning,) = figures.warnings
    assert "output y holds NaN or infinity for a made-up sample" in warning
    assert _telling_row([samples["output_0"]]) == 0


def test_the_recipes_samples_are_the_samples(evaluated, tmp_path):
    x = np.arange(12, dtype="float64").reshape(3, 4)
    np.savez(tmp_path / "own.npz", x=x)
    figures, samples = evaluated("y = Relu (x)", samples="own.npz")
    assert figures.samples == 3
    assert np.array_equal(samples["input_0"], x[:, None])
    assert np.array_equal(samples["output_0"], x[:, None])


def test_chance_is_the_share_of_the_most_frequent_class(evaluated, tmp_path):
    x, y = np.eye(4, dtype="float32"), np.array([0, 1, 1, 1])
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    figures, samples = evaluated("y = Relu (x)", data=Data(npz="data.npz"))
    assert (figures.chance, figures.score.value) == (0.75, 0.5)
    assert samples["target_0"].tolist() == [[0], [1], [1], [1]]


@pytest.mark.parametrize(
    ("outputs", "row"),
    [
        ([[[1.0, 2]], [[3, 4]]], 0),
        ([[[0.0, 0]], [[0, 4]]], 1),
        ([[[np.nan, np.inf]], [[0, 0]], [[1, 1]]], 2),
        ([[[0.0]], [[0]]], 0),
    ],
)
def test_the_example_of_a_bundle_is_a_sample_that_tells_something(outputs, row):
    assert _telling_row([np.array(outputs)]) == row
    assert _telling_row([np.zeros_like(np.array(outputs)), np.array(outputs)]) == row


def test_without_outputs_the_first_sample_is_the_example():
    assert _telling_row([]) == 0
