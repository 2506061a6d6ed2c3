"""The valid range of inputs that are used as indices."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.onnxfile.ranges import index_ranges

TABLES = {
    "words": np.zeros((100, 4), "float32"),
    "places": np.zeros((16, 4), "float32"),
    "wide": np.zeros((2, 30), "float32"),
    "cube": np.zeros((5, 6, 7), "float32"),
    "axes": np.array([0]),
    "shape": np.array([3, 1]),
    "depth": np.array([9]),
    "values": np.zeros(2, "float32"),
    "from": np.array([0]),
    "to": np.array([2]),
    "one": np.array([1]),
    "moved": np.zeros((1, 3), "float32"),
}


def graph(*nodes, shape=(1, 3)):
    """A model of these nodes on the integer input ids; each is (operator, inputs, output) or with attributes."""
    made = [
        helper.make_node(operator, inputs, [output], **(rest[0] if rest else {}))
        for operator, inputs, output, *rest in nodes
    ]
    last = [onnx.ValueInfoProto(name=made[-1].output[0])]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, shape)
    used = {name for node in made for name in node.input}
    constants = [numpy_helper.from_array(value, name) for name, value in TABLES.items() if name in used]
    return helper.make_model(
        helper.make_graph(made, "ids", [ids], last, constants), opset_imports=[helper.make_opsetid("", 18)]
    )


@pytest.mark.parametrize(
    ("nodes", "whole", "partly"),
    [
        ([("Gather", ["words", "ids"], "y")], (-100, 99), (-100, 99)),
        ([("Gather", ["wide", "ids"], "y", {"axis": -1})], (-30, 29), (-30, 29)),
        ([("GatherElements", ["wide", "ids"], "y", {"axis": 1})], (-30, 29), (-30, 29)),
        ([("ScatterElements", ["wide", "ids", "moved"], "y", {"axis": 1})], (-30, 29), (-30, 29)),
        ([("GatherND", ["cube", "ids"], "y")], (-7, 6), (-7, 6)),
        (
            [
                ("Cast", ["ids"], "a", {"to": TensorProto.INT32}),
                ("Reshape", ["a", "shape"], "b"),
                ("Unsqueeze", ["b", "axes"], "c"),
                ("Transpose", ["c"], "d", {"perm": [2, 1, 0]}),
                ("Gather", ["words", "d"], "y"),
            ],
            (-100, 99),
            (-100, 99),
        ),
        ([("Gather", ["words", "ids"], "x"), ("Gather", ["places", "ids"], "y")], (-16, 15), (-16, 15)),
        ([("Slice", ["ids", "from", "to", "one"], "a"), ("Gather", ["words", "a"], "y")], None, (-100, 99)),
        ([("OneHot", ["ids", "depth", "values"], "y")], None, (-9, 8)),
        ([("Gather", ["ids", "axes"], "y")], None, None),
        ([("Mul", ["ids", "one"], "a"), ("Gather", ["words", "a"], "y")], None, None),
    ],
    ids=lambda value: value[-1][0] if isinstance(value, list) else None,
)
def test_ranges_follow_the_values_to_what_they_index(nodes, whole, partly):
    model = graph(*nodes)
    assert index_ranges(model).get("ids") == whole
    assert index_ranges(model, partly=True).get("ids") == partly


def test_a_table_of_unknown_size_gives_no_range():
    table = helper.make_tensor_value_info("table", TensorProto.FLOAT, ["rows", 4])
    model = graph(("Gather", ["table", "ids"], "y"))
    model.graph.input.append(table)
    assert index_ranges(model) == {}


def test_lengths_of_sequences_are_at_most_the_steps():
    node = helper.make_node("GRU", ["x", "w", "r", "", "lengths"], ["", "h"], hidden_size=4)
    model = helper.make_model(
        helper.make_graph(
            [node],
            "g",
            [
                helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 2, 3]),
                helper.make_tensor_value_info("lengths", TensorProto.INT32, [2]),
            ],
            [onnx.ValueInfoProto(name="h")],
            [
                numpy_helper.from_array(np.zeros((1, 12, width), "float32"), name)
                for name, width in (("w", 3), ("r", 4))
            ],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
    )
    assert index_ranges(model) == {"lengths": (0, 5)}
