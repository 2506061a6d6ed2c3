"""Canonical form: the same model gives the same bytes."""

import hashlib

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.errors import InputError
from edgepack.export import run_onnx
from edgepack.onnxfile import canonicalise, save_onnx


def model(nodes=None, initializers=(), opset=18, **fields):
    nodes = nodes or [helper.make_node("Relu", ["x"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "anything",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        list(initializers),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10, **fields)


def digest(proto):
    return hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()


def test_where_a_model_was_made_is_not_in_the_file():
    node = helper.make_node("Relu", ["x"], ["y"], doc_string='File "/home/someone/net.py", line 3')
    node.metadata_props.add(key="stack_trace", value="/home/someone/net.py")
    told = model([node], producer_name="pytorch", producer_version="2", doc_string="made on a Tuesday")
    told.metadata_props.add(key="author", value="someone")
    assert b"someone" not in canonicalise(told).SerializeToString()
    assert digest(canonicalise(told)) == digest(canonicalise(model()))


def test_it_is_idempotent_and_leaves_its_argument_alone():
    given = model([helper.make_node("Relu", ["x"], ["y"], doc_string="kept")])
    before = given.SerializeToString()
    once = canonicalise(given)
    assert given.SerializeToString() == before
    assert digest(canonicalise(once)) == digest(once)


def test_how_tensors_and_attributes_are_written_does_not_matter():
    values = np.arange(6, dtype="float32").reshape(2, 3)
    typed = helper.make_tensor("w", TensorProto.FLOAT, [2, 3], values.ravel().tolist())
    raw = numpy_helper.from_array(values, "w")
    assert typed.SerializeToString() != raw.SerializeToString()
    add = [helper.make_node("Add", ["x", "w"], ["y"])]
    assert digest(canonicalise(model(add, [typed]))) == digest(canonicalise(model(add, [raw])))


def test_the_order_of_attributes_does_not_matter():
    def elu(*names):
        node = helper.make_node("Selu", ["x"], ["y"])
        node.attribute.extend(helper.make_attribute(name, 1.5) for name in names)
        return node

    assert digest(canonicalise(model([elu("alpha", "gamma")]))) == digest(
        canonicalise(model([elu("gamma", "alpha")]))
    )


def test_saving_leaves_nothing_else_behind(tmp_path):
    given = canonicalise(model())
    save_onnx(given, tmp_path / "new" / "m.onnx")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["m.onnx"]
    x = np.array([[-1, 2, 3], [4, -5, 6]], "float32")
    (y,) = run_onnx(tmp_path / "new" / "m.onnx", {"x": x})
    assert np.array_equal(y, np.maximum(x, 0))


def test_dead_nodes_and_unused_weights_go_and_constants_become_weights():
    ones = numpy_helper.from_array(np.ones(3, "float32"))
    given = model(
        [
            helper.make_node("Constant", [], ["one"], value=ones),
            helper.make_node("Add", ["x", "one"], ["y"]),
            helper.make_node("Exp", ["x"], ["nobody_reads_this"]),
        ],
        [numpy_helper.from_array(np.zeros(1000, "float32"), "unused")],
    )
    graph = canonicalise(given).graph
    assert [node.op_type for node in graph.node] == ["Add"]
    assert [tensor.name for tensor in graph.initializer] == ["one"]


def test_weights_listed_as_inputs_are_no_inputs():
    given = model(
        [helper.make_node("Add", ["x", "w"], ["y"])], [numpy_helper.from_array(np.ones(3, "float32"), "w")]
    )
    given.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3]))
    assert [value.name for value in canonicalise(given).graph.input] == ["x"]


def test_nodes_get_unique_names():
    given = model(
        [
            helper.make_node("Relu", ["x"], ["a"], name="act"),
            helper.make_node("Relu", ["a"], ["b"], name="act"),
            helper.make_node("Relu", ["b"], ["y"]),
        ]
    )
    assert [node.name for node in canonicalise(given).graph.node] == ["act", "act_1", "Relu_2"]


def test_every_value_gets_a_shape():
    given = model([helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Relu", ["a"], ["y"])])
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in canonicalise(given).graph.value_info
    }
    assert shapes == {"a": [2, 3]}


def test_branches_keep_what_they_read_from_outside():
    def branch(op):
        return helper.make_graph(
            [helper.make_node(op, ["x", "outer"], ["r"])],
            op,
            [],
            [helper.make_tensor_value_info("r", 1, [2, 3])],
        )

    given = model(
        [
            helper.make_node("If", ["flag"], ["y"], then_branch=branch("Add"), else_branch=branch("Mul")),
        ],
        [
            numpy_helper.from_array(np.array(True), "flag"),
            numpy_helper.from_array(np.full((2, 3), 5, "float32"), "outer"),
        ],
    )
    assert {tensor.name for tensor in canonicalise(given).graph.initializer} == {"flag", "outer"}


def test_an_inconsistent_graph_is_refused():
    with pytest.raises(InputError, match="inconsistent"):
        canonicalise(
            model(
                [helper.make_node("Reshape", ["x", "s"], ["y"])],
                [numpy_helper.from_array(np.array([7]), "s")],
            )
        )
