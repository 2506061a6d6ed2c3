"""Weights in sparse blocks on the emulated GPU: decoded once, when the model is loaded."""

import numpy as np
from gpu_models import WEIGHT, Model, X
from onnx import TensorProto, helper, numpy_helper

from edgepack.config.target import load_target
from edgepack.lower import compile_model
from edgepack.onnxfile import canonicalise, save_onnx
from edgepack.onnxfile.sparse_blocks import store_sparse


def test_sparse_weights_are_decoded_at_load_and_not_in_each_inference(tmp_path):
    weight = np.where(np.random.default_rng(2).random(WEIGHT.shape) < 0.05, WEIGHT, 0).astype("float32")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [X.shape[0], weight.shape[1]])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    stored = store_sparse(canonicalise(model))
    assert "ScatterND" in {node.op_type for node in stored.graph.node}
    save_onnx(stored, tmp_path / "m.onnx")
    built = compile_model(tmp_path / "m.onnx", load_target("host-gpu"), tmp_path / "m.so")
    assert [kernel.name for kernel in built.kernels] == ["matmul"]
    (summary,) = [each for each in built.constants if each.encoding != "dense"]
    assert summary.decoded == "load"
    assert summary.stored_bytes < weight.nbytes / 4
    (module,) = built.sources
    got = Model(built.path, module.source, module.cubin, tmp_path).run(module.source)
    np.testing.assert_allclose(got, X.astype(np.float64) @ weight, atol=1e-4)
