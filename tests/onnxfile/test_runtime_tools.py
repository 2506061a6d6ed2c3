"""Files that onnxruntime's own tools write are imported: its quantizer, its graph and its transformer optimiser."""

import logging

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node as node
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from edgepack.export import import_checked
from edgepack.lower.deep import examine

SHAPE = (1, 3, 12, 12)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Every operator that the quantizer has a form for, as far as a small image classifier has them."""
    rng = np.random.default_rng(0)
    weights = {
        name: (rng.standard_normal(shape) / np.prod(shape[1:]) ** 0.5).astype("float32")
        for name, shape in {
            "w1": (8, 3, 3, 3),
            "w2": (8, 8, 3, 3),
            "w3": (8, 8, 1, 1),
            "w4": (10, 16),
        }.items()
    }
    weights |= {name: np.zeros(n, "float32") for name, n in {"b1": 8, "b2": 8, "b4": 10}.items()}
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1]),
        node("Add", ["c2", "r1"], ["a"]),
        node("LeakyRelu", ["a"], ["l"], alpha=0.1),
        node("Sigmoid", ["l"], ["s"]),
        node("Mul", ["l", "s"], ["m"]),
        node("AveragePool", ["m"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p", "w3"], ["c3"]),
        node("Concat", ["c3", "p"], ["j"], axis=1),
        node("GlobalAveragePool", ["j"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("Gemm", ["f", "w4", "b4"], ["d"], transB=1),
        node("Softmax", ["d"], ["y"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 10))],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    path = tmp_path_factory.mktemp("tools") / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


class Samples(CalibrationDataReader):
    def __init__(self):
        rng = np.random.default_rng(1)
        self._samples = iter([{"x": rng.standard_normal(SHAPE).astype("float32")} for _ in range(8)])

    def get_next(self):
        return next(self._samples, None)


@pytest.fixture(autouse=True)
def _quietly():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def optimised(path, level):
    """The file that onnxruntime writes after its optimisations of a level."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 4
    out = path.with_name(f"{path.stem}-{level}.onnx")
    options.optimized_model_filepath = str(out)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return out


def operators(path):
    return {node.op_type for node in onnx.load(path).graph.node}


@pytest.mark.parametrize("kind", [QuantType.QUInt8, QuantType.QInt8])
@pytest.mark.parametrize("form", [QuantFormat.QOperator, QuantFormat.QDQ])
def test_the_static_quantizer(network, tmp_path, form, kind):
    made = tmp_path / "q.onnx"
    quantize_static(
        str(network), str(made), Samples(), quant_format=form, activation_type=kind, weight_type=QuantType.QInt8, per_channel=True
    )  # fmt: skip
    for path in (made, optimised(made, "ORT_ENABLE_EXTENDED")):
        import_checked(path, (), tmp_path / "out.onnx")
    if form == QuantFormat.QOperator:
        assert {"QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearConcat", "QGemm"} <= operators(made)
    else:
        assert not examine(made).model_problems


@pytest.mark.parametrize("kind", [QuantType.QUInt8, QuantType.QInt8])
def test_the_dynamic_quantizer(network, tmp_path, kind):
    made = tmp_path / "q.onnx"
    quantize_dynamic(str(network), str(made), weight_type=kind)
    fused = optimised(made, "ORT_ENABLE_EXTENDED")
    assert "DynamicQuantizeMatMul" in operators(fused)
    for path in (made, fused):
        import_checked(path, (), tmp_path / "out.onnx")


def test_the_graph_optimiser(network, tmp_path):
    made = optimised(network, "ORT_ENABLE_EXTENDED")
    assert "FusedConv" in operators(made)
    import_checked(made, (), tmp_path / "out.onnx")
    assert not examine(made).model_problems


@pytest.mark.filterwarnings("ignore")  # of the exporter whose graphs the optimiser knows
def test_the_transformer_optimiser(tmp_path):
    import torch
    from onnxruntime.transformers import optimizer

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places = torch.nn.Embedding(50, 32), torch.nn.Embedding(16, 32)
            self.layer = torch.nn.TransformerEncoderLayer(32, 4, 64, 0.0, "gelu", batch_first=True)

        def forward(self, ids):
            return self.layer(self.words(ids) + self.places(torch.arange(ids.shape[1])))

    torch.manual_seed(0)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # which has no ONNX form
    path = tmp_path / "text.onnx"
    try:
        ids = torch.randint(0, 50, (1, 16))
        torch.onnx.export(
            Encoder().eval(), (ids,), str(path), opset_version=17, input_names=["x"], dynamo=False
        )
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    made = optimizer.optimize_model(str(path), model_type="bert", num_heads=4, hidden_size=32, opt_level=1)
    made.save_model_to_file(str(tmp_path / "fused.onnx"))
    assert {"SkipLayerNormalization", "BiasGelu"} & operators(tmp_path / "fused.onnx")
    import_checked(tmp_path / "fused.onnx", (), tmp_path / "out.onnx")
    assert not examine(tmp_path / "fused.onnx").model_problems
