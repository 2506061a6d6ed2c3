"""What is known of the kernels of a compiled model: their work, and the nodes of the ONNX file that each call computes."""

import pytest

from edgepack.config.target import load_target
from edgepack.lower import compile_model
from edgepack.onnxfile.counting import count

TARGET = "x86-64-v2"


@pytest.fixture(scope="module")
def listed(network, tmp_path_factory):
    out = tmp_path_factory.mktemp("tracing") / "model.so"
    return compile_model(network, load_target(TARGET), out).calls


def operators(calls):
    return [[node.operator for node in call.nodes] for call in calls]


def test_each_call_has_the_nodes_that_it_computes(listed):
    assert operators(listed.calls) == [
        ["Conv", "Relu"],
        ["Conv", "Relu", "Add"],
        ["Conv", "Relu"],
        ["GlobalAveragePool"],
        ["Gemm"],
    ]
    assert [call.nodes[0].name for call in listed.calls[:3]] == ["first", "depthwise", "second"]


def test_work_of_kernels_is_that_of_the_model(listed, network):
    works = {kernel.name: kernel for kernel in listed.kernels}
    called = [works[call.kernel] for call in listed.calls]
    assert [kernel.macs for kernel in called] == [16 * 64 * 27, 16 * 64 * 9, 24 * 64 * 16, 0, 240]
    assert {kernel.arithmetic for kernel in called} == {"float32", None}
    assert called[0].read == 4 * (3 * 15 * 15 + 16 * 27 + 16)
    assert called[0].written == 4 * 16 * 64
    assert not any(kernel.tuned for kernel in called)


def test_equal_kernels_have_their_own_nodes(tmp_path):
    """Two layers of the same form share a kernel."""
    model = chain(tmp_path, 3)
    listed = compile_model(model, load_target(TARGET), tmp_path / "model.so").calls
    assert [[node.name for node in call.nodes] for call in listed.calls] == [
        ["layer0", "relu0"],
        ["layer1", "relu1"],
        ["layer2", "relu2"],
    ]
    assert [[node.module for node in call.nodes] for call in listed.calls] == [
        [f"blocks.{number}.linear", None] for number in range(3)
    ]
    assert len(listed.kernels) == 1
    assert sum(listed.kernels[0].macs for _ in listed.calls) == count(model).macs


def test_nodes_of_rewritten_operators_are_the_files(tmp_path):
    """LpNormalization is imported as several operators."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="before"),
        helper.make_node("LpNormalization", ["r"], ["y"], name="norm", axis=-1, p=2),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 8]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    listed = compile_model(tmp_path / "model.onnx", load_target(TARGET), tmp_path / "model.so").calls
    found = {node.name for call in listed.calls for node in call.nodes}
    assert found == {"before", "norm"}
    assert all(call.nodes for call in listed.calls)


def test_sums_of_squares_are_no_multiply_accumulates(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("ReduceSumSquare", ["x"], ["y"], keepdims=0)
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 8])]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])]
    model = helper.make_model(
        helper.make_graph([node], "g", given, made),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=10,
    )
    onnx.save(model, tmp_path / "model.onnx")
    listed = compile_model(tmp_path / "model.onnx", load_target(TARGET), tmp_path / "model.so").calls
    assert sum(kernel.macs for kernel in listed.kernels) == 0


def chain(folder, count):
    """Linear layers of the same form, one after the other, with parameters named as in torch."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    nodes, constants = [], []
    for number in range(count):
        module = f"blocks.{number}.linear"
        constants += [
            numpy_helper.from_array(random.normal(0, 1, (8, 8)).astype("float32"), f"{module}.weight"),
            numpy_helper.from_array(random.normal(0, 1, 8).astype("float32"), f"{module}.bias"),
        ]
        given = [f"v{number}", f"{module}.weight", f"{module}.bias"]
        nodes.append(helper.make_node("Gemm", given, [f"g{number}"], name=f"layer{number}"))
        nodes.append(helper.make_node("Relu", [f"g{number}"], [f"v{number + 1}"], name=f"relu{number}"))
    values = [helper.make_tensor_value_info(f"v{number}", TensorProto.FLOAT, [2, 8]) for number in (0, count)]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    path = folder / "chain.onnx"
    onnx.save(model, path)
    return path
