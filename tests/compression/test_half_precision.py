"""Weights in 16 bits: half the file, the same outputs up to rounding, stored or computed with."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import nn

from edgepack.compression import bf16, fp16
from edgepack.compression.bf16 import Bf16
from edgepack.compression.fp16 import Fp16
from edgepack.compression.method import Context
from edgepack.config.target import load_target
from edgepack.errors import InputError
from edgepack.export import evaluate, relative_error, run_onnx, to_onnx
from edgepack.lower import compile_model
from edgepack.lower.host import open_on_host
from edgepack.onnxfile.counting import count
from edgepack.onnxfile.importing import import_onnx
from edgepack.spec import Input

FORMS = {
    "fp16": (fp16, Fp16(method="fp16"), 2e-3),
    "fp16 computed": (fp16, Fp16(method="fp16", compute="fp16"), 5e-3),
    "bf16": (bf16, Bf16(method="bf16"), 2e-2),
}


@pytest.mark.parametrize("form", FORMS)
def test_half_the_bytes_and_the_accuracy_stay(model, data, inputs, tmp_path, form):
    method, step, bound = FORMS[form]
    out = tmp_path / "h.onnx"
    metrics = method.apply(model, out, step, Context(inputs))
    assert metrics["size"] == [model.stat().st_size, out.stat().st_size]
    assert metrics["size"][0] > 1.9 * metrics["size"][1]
    assert len(metrics["layers"]) >= 7
    assert all(after * 2 == before for before, after in metrics["layers"].values())
    assert evaluate(out, data.x_test, data.y_test) >= evaluate(model, data.x_test, data.y_test) - 0.003
    x = {"image": data.x_test[:1]}
    assert relative_error(run_onnx(out, x)[0], run_onnx(model, x)[0]) < bound
    assert count(out).parameters == count(model).parameters
    assert count(out).macs == count(model).macs
    ends = [*onnx.load(out).graph.input, *onnx.load(out).graph.output]
    assert {value.type.tensor_type.elem_type for value in ends} == {TensorProto.FLOAT}
    method.apply(model, tmp_path / "again.onnx", step, Context(inputs))
    assert (tmp_path / "again.onnx").read_bytes() == out.read_bytes()


@pytest.mark.parametrize("form", ["fp16", "bf16"])
def test_stored_halves_survive_an_import_and_are_compiled(model, inputs, data, tmp_path, form):

    method, step, _ = FORMS[form]
    method.apply(model, tmp_path / "h.onnx", step, Context(inputs))
    encoding = {"fp16": "float16", "bf16": "bfloat16"}[form]
    import_onnx(tmp_path / "h.onnx", inputs, tmp_path / "again.onnx")
    assert (
        count(tmp_path / "again.onnx").encodings[encoding] == count(tmp_path / "h.onnx").encodings[encoding]
    )
    result = compile_model(tmp_path / "h.onnx", load_target("x86-64-v3"), tmp_path / "m.so")
    assert sum(each.count for each in result.constants if each.encoding == encoding) == 13
    assert (encoding, "load") in {(each.encoding, each.decoded) for each in result.constants}
    machine = open_on_host(result.path)
    got = machine(data.x_test[:1])[0]
    assert relative_error(got, run_onnx(tmp_path / "h.onnx", {"image": data.x_test[:1]})[0]) < 1e-5


@pytest.mark.parametrize("float16", [False, True])
def test_auto_computes_in_float16_if_all_targets_do(inputs, tmp_path, float16):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).eval()
    path = to_onnx(module, inputs, tmp_path / "m.onnx")
    context = Context(inputs, float16=float16)
    metrics = fp16.apply(path, tmp_path / "a.onnx", Fp16(method="fp16", compute="auto"), context)
    compute = "fp16" if float16 else "fp32"
    assert metrics["compute"] == compute
    assert fp16.METHOD.by_target(Fp16(method="fp16", compute="auto"))
    fp16.apply(path, tmp_path / "b.onnx", Fp16(method="fp16", compute=compute), Context(inputs))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    x = {"image": np.random.default_rng(0).random((1, 1, 8, 8), "float32")}
    assert relative_error(run_onnx(tmp_path / "a.onnx", x)[0], run_onnx(path, x)[0]) < 5e-3


def test_values_beyond_float16_stay_float32(tmp_path, inputs):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Linear(32, 10)).eval()
    with torch.no_grad():
        module[1].weight[0, 0] = 1e6
    path = to_onnx(module, inputs, tmp_path / "m.onnx")
    metrics = fp16.apply(path, tmp_path / "h.onnx", Fp16(method="fp16"), Context(inputs))
    assert metrics["kept_whole"] == {"1.weight": "it has values beyond the range of float16"}
    whole = bf16.apply(path, tmp_path / "b.onnx", Bf16(method="bf16"), Context(inputs))
    assert not whole["kept_whole"]


@pytest.mark.parametrize("compute", ["fp32", "fp16"])
def test_skipped_layers_stay_float32(model, inputs, tmp_path, compute):
    step = Fp16(method="fp16", compute=compute, skip=("classifier",))
    metrics = fp16.apply(model, tmp_path / "h.onnx", step, Context(inputs))
    assert metrics["kept_whole"] == {"classifier.weight": "skipped by the recipe"}
    tensors = {tensor.name: tensor for tensor in onnx.load(tmp_path / "h.onnx").graph.initializer}
    assert tensors["classifier.weight"].data_type == TensorProto.FLOAT
    with pytest.raises(InputError, match="no constant of 32 elements or more"):
        fp16.apply(model, tmp_path / "n.onnx", step.model_copy(update={"skip": ("*",)}), Context(inputs))


@pytest.mark.parametrize("form", FORMS)
def test_recurrent_layers_embeddings_and_several_outputs(tmp_path, form):
    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(40, 16)
            self.lstm = nn.LSTM(16, 16, batch_first=True)
            self.norm = nn.LayerNorm(16)

        def forward(self, ids):
            states = self.norm(self.lstm(self.words(ids))[0])
            return states @ self.words.weight.T, states.mean(1)

    inputs = (Input(name="ids", shape=(2, 6), dtype="int64"),)
    torch.manual_seed(0)
    path = to_onnx(Text().eval(), inputs, tmp_path / "m.onnx")
    method, step, _ = FORMS[form]
    metrics = method.apply(path, tmp_path / "h.onnx", step, Context(inputs))
    assert metrics["size"][0] > metrics["size"][1]
    feed = {"ids": np.random.default_rng(0).integers(0, 40, (2, 6))}
    for ours, exact in zip(run_onnx(tmp_path / "h.onnx", feed), run_onnx(path, feed), strict=True):
        assert relative_error(ours, exact) < 0.03
