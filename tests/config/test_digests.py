"""The sums of files in a recipe are compared with the files before anything is read from them."""

import hashlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack import api
from edgepack.config.plan import make_plan
from edgepack.errors import IntegrityError
from edgepack.pipeline.fingerprint import user_files

MODEL = """\
edgepack: 1
name: tiny
model:
  {model}
{more}targets: [{{target: rpi4}}]
"""
OTHER = "0" * 64


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(folder, model, more=""):
    path = folder / "recipe.yaml"
    path.write_text(MODEL.format(model=model, more=more))
    return path


@pytest.fixture
def net(tmp_path):
    """tiny.onnx, with its data in tiny.data."""
    weight = numpy_helper.from_array(np.ones((300, 3), "float32"), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 300])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "whole.onnx")
    onnx.save(
        model, tmp_path / "tiny.onnx", save_as_external_data=True, location="tiny.data", size_threshold=0
    )
    (tmp_path / "net.py").write_text("def network(): ...\n")
    (tmp_path / "w.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return tmp_path


def torch_model(digest):
    return f"{{source: 'net:network', weights: w.safetensors, sha256: {digest}, inputs: [{{name: x, shape: [1, 3]}}]}}"


def onnx_model(digest, file="whole.onnx"):
    return f"{{onnx: {file}, sha256: {digest}}}"


@pytest.mark.parametrize("spell", [str, str.upper])
def test_a_file_with_the_sum_passes(net, spell):
    for make, file in ((torch_model, "w.safetensors"), (onnx_model, "whole.onnx")):
        recipe = write(net, make(f'"{spell(sha256(net / file))}"'))
        assert api.check(recipe) == []
        user_files(make_plan(recipe).recipe, net)


@pytest.mark.parametrize(
    ("make", "file"), [(torch_model, "w.safetensors"), (onnx_model, "whole.onnx")], ids=["torch", "onnx"]
)
def test_another_file_is_refused_with_both_sums(net, make, file):
    recipe = write(net, make(f'"{OTHER}"'))
    for use in (api.check, api.compress, api.examine, make_plan):
        with pytest.raises(IntegrityError, match=f"{file} is not the file that the recipe means") as caught:
            use(recipe)
        column = 1 + recipe.read_text().splitlines()[3].index('"')
        assert caught.value.where == f"{recipe}:4:{column}"
        assert caught.value.why == f"its sha256 is {sha256(net / file)}, expected {OTHER}"
        assert caught.value.exit_code == 6


def test_nothing_is_read_from_it(net):
    (net / "whole.onnx").write_bytes(b"\x08\x08no model at all")
    with pytest.raises(IntegrityError, match="is not the file"):
        api.check(write(net, onnx_model(f'"{OTHER}"')))


def test_a_file_that_is_changed_after_the_check_is_refused(net):
    plan = make_plan(write(net, torch_model(f'"{sha256(net / "w.safetensors")}"')))
    (net / "w.safetensors").write_bytes(b"another")
    with pytest.raises(IntegrityError, match=r"w.safetensors is not the file"):
        user_files(plan.recipe, net)


def test_data_in_other_files_needs_a_sum_for_each(net):
    main, data = sha256(net / "tiny.onnx"), sha256(net / "tiny.data")

    def problems(digest):
        return [problem.message for problem in api.check(write(net, onnx_model(digest, "tiny.onnx")))]

    assert problems(f"{{tiny.onnx: '{main}', tiny.data: '{data}'}}") == []
    for partial, missing in ((f"'{main}'", "tiny.data"), (f"{{tiny.data: '{data}'}}", "tiny.onnx")):
        (problem,) = problems(partial)
        assert problem.startswith(f"no sum is given of {missing}, where the model keeps data: write")
        assert "{tiny.onnx: …, tiny.data: …}" in problem
    (problem,) = problems(f"{{tiny.onnx: '{main}', tiny.data: '{data}', other: '{data}'}}")
    assert problem == "`other` is none of the model's files: tiny.onnx, tiny.data"
    with pytest.raises(IntegrityError, match=r"tiny.data is not the file"):
        problems(f"{{tiny.onnx: '{main}', tiny.data: '{OTHER}'}}")
    recipe = write(net, onnx_model(f"{{tiny.onnx: '{main}', tiny.data: '{data}'}}", "tiny.onnx"))
    plan = make_plan(recipe)
    (net / "tiny.data").write_bytes(b"another")
    with pytest.raises(IntegrityError, match=r"tiny.data is not the file"):
        user_files(plan.recipe, net)


def test_code_has_no_sum(net):
    model = f"{{source: 'net:network', sha256: '{OTHER}', inputs: [{{name: x, shape: [1, 3]}}]}}"
    recipe = write(net, model)
    (problem,) = api.check(recipe)
    assert "`sha256` is that of a file: `onnx` or `weights`" in problem.message
    assert (problem.line, problem.column) == (4, 1 + recipe.read_text().splitlines()[3].index("sha256"))


@pytest.mark.parametrize("digest", ["'123'", f"'{'g' * 64}'"])
def test_what_is_no_sum_is_a_problem(net, digest):
    (problem,) = api.check(write(net, onnx_model(digest)))
    assert "a sha256 (64 hexadecimal digits)" in problem.message


def test_a_teacher_has_one_too(net):
    step = (
        "compress: [{{method: distill, teachers: [{{source: 'net:network', weights: w.safetensors, "
        "sha256: '{}'}}]}}]\ndata: {{source: 'net:network'}}\n"
    )
    model = "{source: 'net:network', inputs: [{name: x, shape: [1, 3]}]}"
    right = sha256(net / "w.safetensors")
    recipe = write(net, model, step.format(right))
    assert api.check(recipe) == []
    with pytest.raises(IntegrityError, match=r"w.safetensors is not the file") as caught:
        api.check(write(net, model, step.format(OTHER)))
    assert caught.value.where.startswith(f"{recipe}:5:")
    lacking = step.replace("weights: w.safetensors, ", "").format(right)
    (problem,) = api.check(write(net, model, lacking))
    assert "there is none" in problem.message
