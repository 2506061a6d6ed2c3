"""Notes of LiteRT and ExecuTorch on their operators, from node lists as returned by those runtimes."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.peers.contestants import executorch, litert, zoo
from benchmarks.peers.protocol import Unsupported


def node(index, name, inputs, outputs, reads=(np.float32,)):
    return {
        "index": index,
        "op_name": name,
        "inputs": np.array(inputs, np.int32),
        "outputs": np.array(outputs, np.int32),
        "operand_types": list(reads),
    }


def test_litert_nodes_between_a_delegates_ends_are_its_own():
    nodes = [
        node(0, "EMBEDDING_LOOKUP", [0, 9], [1]),
        node(1, "FULLY_CONNECTED", [1, 8], [2]),
        node(2, "TANH", [2], [3]),
        node(3, "GELU", [3], [4]),
        node(4, "FULLY_CONNECTED", [4, 7], [5]),
        node(5, "DELEGATE", [1, 8], [3]),
        node(6, "DELEGATE", [4, 7], [5]),
    ]
    assert litert._delegation(nodes) == {
        "xnnpack_subgraphs": 2,
        "xnnpack_nodes": 3,
        "nodes_outside_xnnpack": {"EMBEDDING_LOOKUP": 1, "GELU": 1},
    }


def test_litert_without_a_delegate_leaves_every_node_to_its_kernels():
    nodes = [node(0, "TANH", [0], [1]), node(1, "TANH", [1], [2])]
    assert litert._delegation(nodes) == {
        "xnnpack_subgraphs": 0,
        "xnnpack_nodes": 0,
        "nodes_outside_xnnpack": {"TANH": 2},
    }


def test_litert_counts_operators_by_what_they_compute_in():
    nodes = [
        node(0, "QUANTIZE", [0], [1]),
        node(1, "CONV_2D", [1, 2], [3], [np.int8, np.int8]),
        node(2, "DEQUANTIZE", [3], [4], [np.int8]),
        node(3, "FULLY_CONNECTED", [4, 6], [5], [np.float32, np.int8]),  # dynamic: its weights are int8
        node(4, "GELU", [5], [7]),
    ]
    assert litert._integer(nodes) == {
        "int8_operators": {"CONV_2D": 1, "FULLY_CONNECTED": 1},
        "fp32_operators": {"GELU": 1},
    }


def test_litert_int8_without_an_int8_operator_is_unsupported():
    with pytest.raises(Unsupported, match="every operator of this network in fp32"):
        litert._integer([node(0, "QUANTIZE", [0], [1]), node(1, "TANH", [1], [2])])


def test_litert_outputs_are_in_the_order_of_their_numbers():
    details = {f"output_{i}": {"index": 100 - i} for i in (10, 2, 0, 1)}
    assert [detail["index"] for detail in litert._in_order(details)] == [100, 99, 98, 90]


def test_executorch_names_what_xnnpack_does_not_take():
    counts = {
        "aten_linear_default": SimpleNamespace(delegated=4, non_delegated=0),
        "aten_embedding_default": SimpleNamespace(delegated=0, non_delegated=1),
        "getitem": SimpleNamespace(delegated=0, non_delegated=2),
    }
    info = SimpleNamespace(num_delegated_subgraphs=1, num_delegated_nodes=4, delegation_by_operator=counts)
    assert executorch._delegation(info) == {
        "xnnpack_subgraphs": 1,
        "xnnpack_nodes": 4,
        "nodes_outside_xnnpack": {"aten_embedding_default": 1},
    }


def test_executorch_counts_what_its_quantizer_annotated():
    annotated = {"quantization_annotation": SimpleNamespace(_annotated=True)}
    graph = SimpleNamespace(
        nodes=[
            SimpleNamespace(op="placeholder", target="ids", meta={}),
            SimpleNamespace(op="call_function", target="aten.embedding.default", meta={}),
            SimpleNamespace(op="call_function", target="aten.linear.default", meta=annotated),
            SimpleNamespace(op="call_function", target="aten.linear.default", meta=annotated),
            SimpleNamespace(op="call_module", target="activation_post_process_0", meta={}),
        ]
    )
    found = zoo.by_precision(executorch._operators(graph), "a quantizer")
    assert found == {"int8_operators": {"linear": 2}, "fp32_operators": {"embedding": 1}}
