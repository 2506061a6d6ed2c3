"""Every operator whose definition changed, at every opset in which it did, with each attribute away from its default.

Each form is imported, and the result compared with onnxruntime on the original file.
"""

import numpy as np
import onnx
import opset_forms
import pytest
from onnx import TensorProto as T
from onnx import defs, helper
from onnx.reference import ReferenceEvaluator
from opset_forms import LEFT_OUT, Form, X, changed, forms, model_of, opsets, written

from edgepack.errors import InputError, UnsupportedError
from edgepack.export.importing import import_checked
from edgepack.export.reference import run_onnx
from edgepack.onnxfile.opset.versions import HIGHEST, LOWEST, NEWER, VERSIONS
from edgepack.onnxfile.quiet import quiet
from edgepack.onnxfile.sampling import made_up

NO_KERNEL = {("RoiAlign", 22), ("MaxRoiPool", 22), ("GlobalLpPool", 22)}
"""Versions for which onnxruntime has no kernel on CPUs, so that it cannot run the user's file."""
RUN_BY_ONNXRUNTIME = 26  # for later opsets, ONNX's own reference implementation says what is right
NO_BATCH_FIRST = "layout_ == 0"  # onnxruntime's recurrent operators take the time axis first


def _check(op, version, opset, form, folder):
    path, out, shown = folder / "m.onnx", folder / "out.onnx", f"{op} {version} at opset {opset}, {form}"
    try:
        written(model_of(op, opset, form), path)
        inputs = import_checked(path, (), out)
    except UnsupportedError as error:
        (problem,) = error.model_problems
        assert form.refused, f"{shown}: {problem}"
        assert form.refused in problem.message + problem.why
        assert problem.next
        return
    except InputError as error:
        if (op, version) in NO_KERNEL or NO_BATCH_FIRST in (error.why or ""):
            return
        raise AssertionError(f"{shown}: {error.message}: {error.why}") from error
    assert not form.refused, f"{shown}: it is not refused"
    for sample in made_up(path, inputs, 2):
        wanted = sample.outputs
        if opset > RUN_BY_ONNXRUNTIME:
            wanted = [
                np.asarray(each) for each in ReferenceEvaluator(onnx.load(path)).run(None, sample.inputs)
            ]
            wanted = [each if each.dtype.kind in "fiub" else each.view("uint8") for each in wanted]  # float8
        for got, want in zip(run_onnx(out, sample.inputs), wanted, strict=True):
            np.testing.assert_allclose(
                got.astype("float64"),
                want.astype("float64"),
                rtol=1e-4,
                atol=1e-5,
                err_msg=shown,
            )
    imported = onnx.load(out)
    assert LOWEST <= imported.opset_import[0].version <= HIGHEST


def _each(op, which, folder):
    for version, opset in opsets(op):
        if which(version):
            for form in forms(op, version):
                _check(op, version, opset, form, folder)


OPERATORS = sorted(set(changed()) - set(LEFT_OUT))


@pytest.mark.parametrize("op", OPERATORS)
def test_every_form_of_a_converted_version_computes_the_same(op, tmp_path):
    _each(op, lambda version: version < LOWEST or version > HIGHEST, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("op", OPERATORS)
def test_every_form_of_a_version_that_is_kept_computes_the_same(op, tmp_path):
    _each(op, lambda version: LOWEST <= version <= HIGHEST, tmp_path)


def test_every_version_of_every_operator_has_a_rule():
    old, new = set(), set()
    for op, versions in changed().items():
        old |= {(op, version) for version in versions[1:] if version <= LOWEST}
        new |= {(op, version) for version in versions[1:] if version > HIGHEST}
    assert {(op, version) for op, rules in VERSIONS.items() for version in rules} == old
    assert {(op, version) for op, rules in NEWER.items() for version in rules} == new


def test_a_version_without_a_rule_has_all_that_the_one_before_had():
    """Attributes with the same default, and no fewer inputs and outputs."""
    from edgepack.onnxfile.opset.rules import same

    for op, rules in VERSIONS.items():
        for version, rule in rules.items():
            if rule is not same:
                continue
            before, after = defs.get_schema(op, version - 1), defs.get_schema(op, version)
            for name, attribute in before.attributes.items():
                assert name in after.attributes, f"{op} {version}"
                # A required value of Constant became one of several.
                assert attribute.default_value == after.attributes[name].default_value, f"{op} {version}"
            assert len(after.inputs) >= len(before.inputs)
            assert after.max_output >= before.max_output or op == "BatchNormalization"


EXEMPT = {
    ("Cast", "saturate"): "of float8 types, which no input or output has",
    ("CastLike", "saturate"): "of float8 types, which no input or output has",
    ("Constant", "sparse_value"): "no tensor",
    ("Constant", "value_string"): "text",
    ("Constant", "value_strings"): "text",
    ("Attention", "qk_matmul_output_mode"): "of a debugging output",
}


@pytest.mark.parametrize("op", OPERATORS)
def test_each_attribute_of_each_version_is_in_some_form(op):
    for version, opset in opsets(op):
        made = forms(op, version)
        assert made
        for name in defs.get_schema(op, opset).attributes:
            if (op, name) not in EXEMPT:
                assert any(name in form.attributes for form in made), f"{op} {version}: {name}"


def test_operators_that_are_left_out_are_refused_with_a_reason(tmp_path):
    assert set(LEFT_OUT) <= set(changed())
    x = helper.make_tensor_value_info("x", T.FLOAT, [2, 3])
    for op in ("RandomNormalLike", "RandomUniformLike", "Bernoulli"):
        y = helper.make_tensor_value_info("y", T.FLOAT, [2, 3])
        graph = helper.make_graph([helper.make_node(op, ["x"], ["y"])], "g", [x], [y])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(InputError) as caught, quiet():
            import_checked(tmp_path / "m.onnx", (), tmp_path / "out.onnx")
        assert op in caught.value.message
        assert "random" in caught.value.why


def test_forms_are_made_for_the_newest_onnx():
    assert max(v for versions in changed().values() for v in versions) <= opset_forms.NEWEST


WITHDRAWN = [
    ("Affine", {"alpha": 2.0, "beta": 0.5}),
    ("Crop", {"border": [1, 1, 2, 1]}),
    ("Crop", {"border": [1, 2, 0, 0]}),
    ("Crop", {"border": [1, 2, 1, 1], "scale": [3, 4]}),
    ("ImageScaler", {"scale": 2.0, "bias": [1.0, 2.0, 3.0]}),
    ("MeanVarianceNormalization", {}),
    ("MeanVarianceNormalization", {"across_channels": 1}),
    ("MeanVarianceNormalization", {"normalize_variance": 0}),
    ("ParametricSoftplus", {"alpha": 2.0, "beta": 0.5}),
    ("Scale", {"scale": 2.0}),
    ("ScaledTanh", {"alpha": 2.0, "beta": 0.5}),
    ("ThresholdedRelu", {"alpha": 0.3}),
    ("ThresholdedRelu", {"alpha": -0.3}),
]


@pytest.mark.parametrize("opset", [7, 8, 9])
@pytest.mark.parametrize(("op", "attributes"), WITHDRAWN)
def test_a_withdrawn_operator_that_onnxruntime_runs_computes_the_same(op, attributes, opset, tmp_path):
    if op == "MeanVarianceNormalization" and opset == 9:
        attributes = {}  # a normal operator since
    form = Form([X((2, 3, 6, 7))], attributes)
    _check(op, 1, opset, form, tmp_path)
    path, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    x = np.array([np.inf, -np.inf, 0.3, -0.3, 0, 1e30], "float32")
    if op == "ThresholdedRelu":
        x = np.resize(x, (2, 3, 6, 7))
        np.testing.assert_array_equal(run_onnx(out, {"x0": x})[0], run_onnx(path, {"x0": x})[0])


def test_dropout_in_training_is_refused(tmp_path):
    form = Form([X(), np.float32(0.5), np.array(True)], refused="its output is random")
    _check("Dropout", 12, 12, form, tmp_path)
    _check("Dropout", 12, 12, Form([X(), np.float32(0), np.array(True)]), tmp_path)
