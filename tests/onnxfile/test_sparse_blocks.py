"""Sparse blocks: bit-exact over random shapes, recognised, kept by folding, and smaller."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgepack.onnxfile import canonicalise
from edgepack.onnxfile.block_form import encode, with_blocks
from edgepack.onnxfile.encodings import encoded_constants, is_encoded
from edgepack.onnxfile.folding import simplify
from edgepack.onnxfile.sparse_blocks import restore_dense, store_sparse


def pruned(shape, block, left, dtype="float32", seed=0):
    """Random weights ``[rows, positions, columns]``, of which a share of the blocks is left."""
    generator = np.random.default_rng(seed)
    height, width = block
    rows, positions, columns = shape
    weight = generator.integers(-127, 128, shape) if "int" in dtype else generator.standard_normal(shape)
    kept = generator.random((rows // height, positions, columns // width)) < left
    return (weight * kept.repeat(height, 0).repeat(width, 2)).astype(dtype)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    grid=st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 6)),
    block=st.tuples(st.sampled_from([1, 2, 3, 8, 16]), st.sampled_from([1, 2, 4, 5])),
    left=st.sampled_from([0.0, 0.01, 0.25, 0.9, 1.0]),
    dtype=st.sampled_from(["float32", "float16", "int8"]),
    seed=st.integers(0, 5),
)
def test_what_is_stored_decodes_to_the_same_bits(grid, block, left, dtype, seed):
    shape = (grid[0] * block[0], grid[1], grid[2] * block[1])
    weight = pruned(shape, block, left, dtype, seed)
    for sparse in (encode(weight), with_blocks(weight, *block)):
        decoded = sparse.rows()
        assert decoded.dtype == weight.dtype
        np.testing.assert_array_equal(decoded, weight)
        assert sparse.gaps.dtype == np.uint8
    assert encode(weight).nbytes <= with_blocks(weight, 1, 1).nbytes


def test_the_size_of_the_blocks_that_were_pruned_is_found():
    for block in ((16, 4), (8, 4), (4, 2), (1, 1)):
        sparse = encode(pruned((64, 9, 64), block, 0.25))
        assert sparse.blocks.shape[1:] == block


def model(weights, *, op="Conv", dequantized=False, opset=18):
    """One operator on a weight, which may be quantized."""
    weight = numpy_helper.from_array(weights, "layer.weight")
    constants, nodes, name = [weight], [], "layer.weight"
    if dequantized:
        out = weights.shape[0]
        constants += [
            numpy_helper.from_array(np.linspace(0.5, 1.5, out, dtype="float32"), "scale"),
            numpy_helper.from_array(np.zeros(out, weights.dtype), "zero"),
        ]
        nodes = [helper.make_node("DequantizeLinear", [name, "scale", "zero"], ["w"], name="dq", axis=0)]
        name = "w"
    attributes = {"transB": 1} if op == "Gemm" else {}
    nodes.append(helper.make_node(op, ["x", name], ["y"], name="layer", **attributes))
    inputs = {
        "Conv": lambda: (1, weights.shape[1], 7, 7),
        "ConvTranspose": lambda: (1, weights.shape[0], 7, 7),
        "Gemm": lambda: (2, weights.shape[1]),
        "MatMul": lambda: (2, weights.shape[0]),
    }[op]()
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, inputs)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    return canonicalise(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))


def run(found, seed=0):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        found.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    value = session.get_inputs()[0]
    x = np.random.default_rng(seed).standard_normal(value.shape).astype("float32")
    return session.run(None, {value.name: x})[0]


def as_weight(rows, op, kernel=3):
    """``[rows, kernel * kernel or 1, columns]`` as an operator has it."""
    if op in ("Gemm", "MatMul"):
        return np.ascontiguousarray(rows[:, 0] if op == "Gemm" else rows[:, 0].T)
    weight = rows.transpose(0, 2, 1).reshape(rows.shape[0], rows.shape[2], kernel, kernel)
    return np.ascontiguousarray(weight if op == "Conv" else weight.swapaxes(0, 1))


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm", "MatMul"])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_file_with_sparse_blocks_computes_the_same_and_survives_folding(op, dtype):
    rows = pruned((64, 9 if "Conv" in op else 1, 64), (8, 4), 0.25, dtype)
    dense = model(as_weight(rows, op), op=op, dequantized=dtype == "int8")
    sparse = store_sparse(dense)
    np.testing.assert_array_equal(run(sparse), run(dense))
    assert sparse.ByteSize() < (0.45 if "Conv" in op else 0.75) * dense.ByteSize()

    (constant,) = [each for each in encoded_constants(sparse) if each.encoding == "sparse-blocks"]
    assert constant.dense_bytes == 4 * rows.size
    assert constant.stored_bytes < 0.35 * rows.nbytes + 500
    folded = ir.from_proto(sparse)
    simplify(folded)
    again = canonicalise(ir.to_proto(folded))
    assert sum(is_encoded(node) for node in ir.from_proto(again).graph) >= 5
    np.testing.assert_array_equal(run(again), run(dense))

    restored = restore_dense(again)
    assert not any(each.encoding == "sparse-blocks" for each in encoded_constants(restored))
    (weight,) = [each for each in restored.graph.initializer if len(each.dims) > 1]
    np.testing.assert_array_equal(numpy_helper.to_array(weight), as_weight(rows, op))
    assert numpy_helper.to_array(weight).dtype == dtype, "it was dequantized"
    assert store_sparse(sparse) is sparse
    assert restore_dense(dense) is dense
    assert store_sparse(dense).SerializeToString() == sparse.SerializeToString()


def test_what_would_not_be_smaller_or_is_no_weight_stays_as_it_is():
    rows = pruned((64, 1, 64), (1, 1), 0.9)
    dense = model(as_weight(rows, "Gemm"), op="Gemm")
    assert store_sparse(dense) is dense
    tiny = model(as_weight(pruned((8, 1, 8), (4, 4), 0.25), "Gemm"), op="Gemm")
    assert store_sparse(tiny) is tiny
    shared = model(as_weight(pruned((64, 1, 64), (8, 4), 0.25), "Gemm"), op="Gemm")
    shared.graph.node.append(helper.make_node("Add", ["layer.weight", "layer.weight"], ["z"], name="add"))
    shared.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, (64, 64)))
    assert store_sparse(shared) is shared
