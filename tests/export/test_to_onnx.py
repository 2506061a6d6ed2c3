"""Export of torch models to ONNX: same results, deterministic bytes, no output on the terminal."""

import hashlib
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgepack.errors import EdgepackError, InputError
from edgepack.export import OPSET, evaluate, parity, predict, relative_error, run_onnx, to_onnx
from edgepack.onnxfile.counting import count
from edgepack.onnxfile.sampling import made_up
from edgepack.spec import Input
from edgepack.zoo import NETS, digits

DIGITS = (Input(name="image", shape=(1, 1, 8, 8)),)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.set_num_threads(1)
    module = digits.network().train()
    path = to_onnx(module, DIGITS, tmp_path_factory.mktemp("digits") / "digits.onnx")
    return module, path


def test_an_export_is_static_folded_and_named(exported):
    module, path = exported
    graph = onnx.load(path)
    assert module.training, "the caller's mode is restored"
    assert [(op.domain, op.version) for op in graph.opset_import] == [("", OPSET)]
    assert [value.name for value in graph.graph.input] == ["image"]
    assert [value.name for value in graph.graph.output] == ["output"]
    assert "BatchNormalization" not in {node.op_type for node in graph.graph.node}
    for value in (*graph.graph.input, *graph.graph.value_info, *graph.graph.output):
        assert all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim), value.name


def test_no_trace_of_the_machine_is_in_the_file(exported):
    _, path = exported
    content = path.read_bytes()
    for word in (b"site-packages", b".py", b"torch", b"namespace", str(path.parent).encode()):
        assert word not in content


def test_the_same_model_gives_the_same_bytes_in_another_process(exported, tmp_path):
    _, path = exported
    code = (
        "import sys; from pathlib import Path; from edgepack.export import to_onnx; from edgepack.spec import Input;"
        "from edgepack.zoo import digits;"
        "to_onnx(digits.network(), (Input(name='image', shape=(1, 1, 8, 8)),), Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "again.onnx")], capture_output=True, text=True, check=True
    )
    assert (
        hashlib.sha256((tmp_path / "again.onnx").read_bytes()).digest()
        == hashlib.sha256(path.read_bytes()).digest()
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_torch_and_onnxruntime_agree(exported):
    module, path = exported
    x = np.random.default_rng(1).random((1, 1, 8, 8), dtype="float32")
    assert parity(module, path, [x]) < 1e-5


def test_disagreement_names_the_worst_output(tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x):
            return self.a(x), self.b(x)

    module = Two()
    path = to_onnx(module, (Input(name="x", shape=(1, 3)),), tmp_path / "two.onnx")
    x = np.ones((1, 3), "float32")
    assert parity(module, path, [x]) < 1e-6
    with torch.no_grad():
        module.b.bias += 1
    with pytest.raises(EdgepackError, match="output 'output_1'"):
        parity(module, path, [x])
    assert parity(module, path, [x], limit=None) > 0.01


def test_evaluate_counts_right_answers_sample_by_sample(exported, tmp_path):
    module, path = exported
    module.eval()
    data = digits.splits()
    with torch.no_grad():
        scores = module(torch.from_numpy(data.x_test))
    expected = (scores.argmax(1).numpy() == data.y_test).mean()
    assert evaluate(path, data.x_test, data.y_test) == pytest.approx(expected)
    batched = to_onnx(module, (Input(name="image", shape=(50, 1, 8, 8)),), tmp_path / "batched.onnx")
    assert len(data.x_test) % 50 != 0
    np.testing.assert_allclose(predict(batched, data.x_test), scores.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 8, 8), "float32"), r"samples are float32\[8, 8\]"),
        (np.zeros((2, 1, 8, 8), "complex64"), "samples are complex64"),
        (np.zeros((0, 1, 8, 8), "float32"), "no samples"),
    ],
)
def test_samples_that_do_not_fit_are_refused(exported, x, message):
    with pytest.raises(InputError, match=message):
        predict(exported[1], x)


def test_inputs_that_do_not_fit_are_refused(exported, capfd):
    with pytest.raises(InputError, match=r"does not run on image: float32\[1, 3\]") as caught:
        run_onnx(exported[1], {"image": np.zeros((1, 3), "float32")})
    assert "image: tensor(float)[1, 1, 8, 8]" in caught.value.next
    assert capfd.readouterr().err == ""


def test_a_model_that_does_not_run_on_the_recipes_inputs(tmp_path):
    with pytest.raises(InputError, match="Digits does not run on the recipe's inputs") as caught:
        to_onnx(digits.network(), (Input(name="image", shape=(1, 3, 8, 8)),), tmp_path / "m.onnx")
    assert "image: float32[1, 3, 8, 8]" in caught.value.where
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="inputs are unknown"):
        to_onnx(digits.network(), (), tmp_path / "m.onnx")


def test_a_model_torch_cannot_export_names_the_line_and_nothing_else(tmp_path, capfd):
    class Branch(nn.Module):
        def forward(self, x):
            return x + 1 if x.sum() > 0 else x - 1

    with pytest.raises(InputError, match="torch cannot export Branch") as caught:
        to_onnx(Branch(), (Input(name="x", shape=(1, 3)),), tmp_path / "m.onnx")
    assert caught.value.where == f"{__file__}:{Branch.forward.__code__.co_firstlineno + 1}"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("a", "b", "error"),
    [
        ([1, 2], [1, 2], 0),
        ([1, 3], [1, 2], 0.5),
        ([0], [0], 0),
        ([1], [0], np.inf),
        ([np.nan], [1], np.inf),
        ([1], [1, 1], np.inf),
        ([], [], 0),
        ([np.nan, np.inf, 3], [np.nan, np.inf, 2], 0.5),
        ([np.nan, -np.inf], [np.nan, np.inf], np.inf),
        ([1, np.inf], [1, 5], np.inf),
    ],
)
def test_relative_error(a, b, error):
    assert relative_error(np.array(a, "float32"), np.array(b, "float32")) == error


def test_a_table_that_differs_in_one_row_is_seen_by_made_up_ids(tmp_path):
    torch.manual_seed(0)
    inputs = (Input(name="ids", shape=(1, 16), dtype="int64"),)
    module = nn.Sequential(nn.Embedding(20, 4), nn.Flatten(), nn.Linear(64, 3)).eval()
    path = to_onnx(module, inputs, tmp_path / "m.onnx")
    samples = [list(sample.inputs.values()) for sample in made_up(path, inputs, 3)]
    assert max(parity(module, path, sample) for sample in samples) < 1e-4
    with torch.no_grad():
        module[0].weight[int(samples[0][0][0, 5])] += 1
    with pytest.raises(EdgepackError, match="differs from torch's"):
        [parity(module, path, sample) for sample in samples]


def test_mobilenet_v2_is_the_real_one(tmp_path):
    torch.set_num_threads(1)
    module = NETS["mobilenet_v2"].network()
    assert sum(p.numel() for p in module.parameters()) == 3_504_872
    path = NETS["mobilenet_v2"].export(tmp_path / "m.onnx")
    counts = count(path)
    assert counts.macs == 300_774_272
    assert counts.size == path.stat().st_size
    # Folding leaves one bias per channel instead of a scale and a shift: 17,056 channels.
    assert counts.parameters == 3_504_872 - 17_056
    x = np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype("float32")
    outputs = [run_onnx(path, {"image": row[None]})[0] for row in x]
    assert parity(module, path, [x[:1]]) < 1e-4
    assert 0.1 < np.std(outputs[0]) < 10
    assert relative_error(outputs[0], outputs[1]) > 0.05, "outputs depend on the input"


def test_the_zoo_gives_the_same_network_every_time():
    net = NETS["mobilenet_v2"]
    a, b, c = net.network(), net.network(), net.network(seed=1)
    assert all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )
    assert not torch.equal(a.classifier.weight, c.classifier.weight)
