"""Codebooks from torch are preserved in the exported file, the counts, and the compiled model's summary."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

from edgepack.config.target import load_target
from edgepack.export import parity, to_onnx
from edgepack.lower import compile_model
from edgepack.lower.host import open_on_host
from edgepack.onnxfile.counting import count
from edgepack.onnxfile.encodings import encoded_constants
from edgepack.onnxfile.importing import import_onnx
from edgepack.spec import Input

X86 = load_target("x86-64-v3")


def random_codes(*shape, entries=16):
    return torch.randint(entries, shape, generator=torch.Generator().manual_seed(0))


class Shared(nn.Module):
    """Scalars shared by a whole matrix, as from k-means of the weights (Han et al. 2016, arXiv:1510.00149)."""

    def __init__(self, entries=16, dtype=torch.int64, form="index"):
        super().__init__()
        self.codebook = nn.Parameter(torch.linspace(-1, 1, entries))
        self.register_buffer("codes", random_codes(48, 64, entries=entries).to(dtype))
        self.form = form

    def forward(self, x):
        if self.form == "transposed":
            return x @ self.codebook[self.codes.long()].T
        if self.form == "flat":
            return functional.linear(x, self.codebook[self.codes.long().flatten()].reshape(48, 64))
        if self.form == "embedding":
            return functional.linear(
                x, functional.embedding(self.codes.long(), self.codebook[:, None])[..., 0]
            )
        return functional.linear(x, self.codebook[self.codes.long()])


class Vectors(nn.Module):
    """Product quantization: a convolution's weights are vectors of 4 from a table."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(32, 4, generator=torch.Generator().manual_seed(1)))
        self.register_buffer("codes", random_codes(16 * 8 * 9 // 4, entries=32).to(torch.uint8))

    def forward(self, x):
        return functional.conv2d(x, self.table[self.codes.long()].reshape(16, 8, 3, 3))


UNPACKING = 3 + 8 * 2  # two shifts, a mask, a shape of two axes
PACKED = 48 * 64 // 2 + 16 * 4 + UNPACKING
CASES = {
    "int64 codes": (Shared(), (1, 64), PACKED, 48 * 64),
    "uint8 codes": (Shared(dtype=torch.uint8), (1, 64), PACKED, 48 * 64),
    "int32 codes, transposed": (Shared(dtype=torch.int32, form="transposed"), (1, 64), PACKED, 48 * 64),
    "flat codes": (Shared(dtype=torch.uint8, form="flat"), (1, 64), PACKED + 8, 48 * 64),
    "embedding": (Shared(form="embedding"), (1, 64), PACKED + 8, 48 * 64),
    "40 entries": (Shared(entries=40), (1, 64), 48 * 64 + 160, 48 * 64),
    "300 entries": (Shared(entries=300), (1, 64), 2 * 48 * 64 + 1200, 48 * 64),
    "vectors": (Vectors(), (1, 8, 8, 8), 288 + 32 * 4 * 4 + 8 * 4, 16 * 8 * 9),
}


@pytest.mark.parametrize("case", CASES)
def test_an_exported_codebook_is_codes_and_table(case, tmp_path):
    module, shape, stored, elements = CASES[case]
    path = to_onnx(module.eval(), (Input(name="x", shape=shape),), tmp_path / "m.onnx")
    (weight,) = [c for c in encoded_constants(onnx.load(path)) if c.encoding != "dense"]
    encoding = "vector-codebook" if case == "vectors" else "codebook"
    assert (weight.encoding, weight.dtype, weight.stored_bytes) == (encoding, "float32", stored)
    assert weight.dense_bytes == 4 * elements
    counts = count(path)
    assert counts.encodings[encoding] == stored
    assert counts.parameters == elements
    assert path.stat().st_size < stored + 3000
    assert parity(module, path, [np.asarray(torch.randn(shape))]) < 1e-5


def test_a_compiled_codebook_means_the_same_and_is_named(tmp_path):

    module = Shared(dtype=torch.uint8, form="transposed").eval()
    path = to_onnx(module, (Input(name="x", shape=(1, 64)),), tmp_path / "m.onnx")
    result = compile_model(path, X86, tmp_path / "m.so")
    (summary,) = result.constants
    assert (summary.encoding, summary.decoded, summary.count) == ("codebook", "load", 1)
    assert summary.resident_bytes == 4 * 48 * 64  # no kernel decodes it
    assert summary.stored_bytes <= summary.raw_bytes <= 48 * 64 // 2 + 16 * 4 + UNPACKING
    x = np.random.default_rng(0).standard_normal((1, 64)).astype("float32")
    machine = open_on_host(result.path)
    got = machine(x)[0]
    with torch.no_grad():
        np.testing.assert_allclose(got, module(torch.from_numpy(x)).numpy(), rtol=1e-4, atol=1e-5)


def lookup(codes, table):
    nodes = [
        helper.make_node("Gather", ["table", "codes"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, codes.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, (*codes.shape[1:], *table.shape[1:])[0]])],
        [numpy_helper.from_array(codes, "codes"), numpy_helper.from_array(table, "table")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def imported(model, tmp_path):
    onnx.save(model, tmp_path / "own.onnx")
    import_onnx(tmp_path / "own.onnx", (), tmp_path / "m.onnx")
    return onnx.load(tmp_path / "m.onnx")


def test_a_codebook_in_a_file_from_elsewhere_is_kept_and_its_codes_become_small(tmp_path):
    import onnxruntime

    codes = random_codes(64, 32).numpy()
    codes[0, 0] = -1  # from the end
    table = np.linspace(-1, 1, 16, dtype="float32")
    found = {c.name: c for c in encoded_constants(imported(lookup(codes, table), tmp_path))}
    assert {c.encoding for c in found.values()} == {"codebook"}
    assert sum(c.stored_bytes for c in found.values()) == codes.size // 2 + 64 + UNPACKING
    x = {"x": np.random.default_rng(0).standard_normal((1, 64)).astype("float32")}
    outputs = [
        onnxruntime.InferenceSession(tmp_path / name).run(None, x)[0] for name in ("own.onnx", "m.onnx")
    ]
    np.testing.assert_array_equal(*outputs)
    again = imported(onnx.load(tmp_path / "m.onnx"), tmp_path)
    assert {c.encoding for c in encoded_constants(again)} == {"codebook"}


def test_positions_of_a_table_are_no_codebook(tmp_path):
    """Each row is used once: codes and table would be larger than the weight."""
    model = imported(lookup(np.arange(64), np.ones((128, 32), "float32")), tmp_path)
    assert [node.op_type for node in model.graph.node] == ["MatMul"]
    assert {c.encoding for c in encoded_constants(model)} == {"dense"}


def test_a_table_of_several_weights_is_stored_once_and_counted_once(tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.linspace(-1, 1, 16))
            self.register_buffer("first", random_codes(64, 64).to(torch.uint8))
            self.register_buffer("second", random_codes(32, 64).to(torch.uint8))

        def forward(self, x):
            hidden = functional.linear(x, self.table[self.first.long()])
            return functional.linear(torch.relu(hidden), self.table[self.second.long()])

    path = to_onnx(Two().eval(), (Input(name="x", shape=(1, 64)),), tmp_path / "m.onnx")
    counts = count(path)
    assert counts.encodings == {"codebook": (64 * 64 + 32 * 64) // 2 + 16 * 4 + UNPACKING + 8 * 2}
    assert counts.parameters == 64 * 64 + 32 * 64


RECIPE = """\
edgepack: 1
name: shared
model:
  source: net:network
  inputs: [{name: x, shape: [1, 64]}]
bench: {baseline: false}
targets: [{target: x86-64-v3}]
"""
NET = """\
import torch
from torch import nn

class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.codebook = nn.Parameter(torch.linspace(-1, 1, 16))
        self.register_buffer("codes", torch.arange(48 * 64).reshape(48, 64) % 16)

    def forward(self, x):
        return x @ self.codebook[self.codes].T

def network():
    return Shared()
"""


def test_a_codebook_is_named_in_the_report_and_in_the_manifest_of_the_bundle(tmp_path, monkeypatch):
    from edgepack import api

    for kind in ("CACHE", "CONFIG", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "net.py").write_text(NET)
    report, (bundle,) = api.build(tmp_path / "recipe.yaml", out=tmp_path / "out")
    assert report.exit_code == 0
    source = report.compression[0]
    assert (source.stage, source.encodings) == ("source", {"codebook": PACKED})
    release = json.loads(api.inspect(bundle).model_dump_json())
    (weights,) = release["constants"]
    assert (weights["encoding"], weights["decoded"]) == ("codebook", "load")
    assert weights["stored_bytes"] <= PACKED
    assert weights["resident_bytes"] == 4 * 48 * 64
