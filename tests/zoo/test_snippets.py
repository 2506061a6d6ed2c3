"""The classifiers of source code and prose: their data, and what a release of them needs."""

import numpy as np
import pytest
import torch

from edgepack.compression import quantize_weights
from edgepack.compression.method import Context
from edgepack.compression.quantize_weights import QuantizeWeights
from edgepack.config.target import load_target
from edgepack.export import evaluate, run_onnx, to_onnx
from edgepack.lower import compile_model
from edgepack.lower.host import open_on_host
from edgepack.onnxfile.counting import count
from edgepack.spec import Input
from edgepack.zoo import snippets

INPUTS = (Input(name="ids", shape=(1, 64), dtype="int64"),)


@pytest.fixture(scope="module")
def splits():
    return snippets.splits()


def test_samples_are_bytes_of_two_kinds_of_text_and_always_the_same(splits):
    assert splits.x_train.shape == (4800, 64)
    assert splits.x_test.shape == (1200, 64)
    assert splits.y_train.mean() == splits.y_test.mean() == 0.5
    assert 0 < splits.x_train.min() <= splits.x_train.max() < 256
    np.testing.assert_array_equal(snippets.splits().x_test, splits.x_test)
    texts = [bytes(row.astype("uint8")) for row in splits.x_train]
    code = [text for text, kind in zip(texts, splits.y_train, strict=True) if kind]
    prose = [text for text, kind in zip(texts, splits.y_train, strict=True) if not kind]
    assert sum(b"self." in text for text in code) > 20 * sum(b"self." in text for text in prose)
    assert sum(b" the " in text for text in prose) > 20 * sum(b" the " in text for text in code)


def test_no_text_is_in_both_splits(splits):
    train = {bytes(row.astype("uint8")) for row in splits.x_train}
    assert (
        sum(bytes(row.astype("uint8")) in train for row in splits.x_test) <= 6
    )  # phrases that chapters share


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("lstm", marks=pytest.mark.slow),
        pytest.param("transformer", marks=pytest.mark.slow),
        "gru",
    ],
)
def test_weights_in_int8_shrink_the_file_and_keep_the_accuracy(name, splits, tmp_path):
    import tvm

    network = getattr(snippets, name)()
    _train(network, splits)
    path = to_onnx(network.eval(), INPUTS, tmp_path / "net.onnx")
    out = tmp_path / "int8.onnx"
    step = QuantizeWeights(method="quantize-weights")
    metrics = quantize_weights.apply(path, out, step, Context(INPUTS, splits))
    assert metrics["size"][0] > 3 * metrics["size"][1]
    assert count(out).parameters == count(path).parameters
    x, y = splits.x_test[:300], splits.y_test[:300]
    before = evaluate(path, x, y)
    assert before > 0.8
    assert evaluate(out, x, y) >= before - 0.02
    compiled = compile_model(out, load_target("x86-64-v3"), tmp_path / "net.so")
    machine = open_on_host(compiled.path)
    for row in x[:5]:
        ours = machine(tvm.runtime.tensor(row[None])).numpy()
        np.testing.assert_allclose(ours, run_onnx(out, {"ids": row[None]})[0], atol=1e-4)


def _train(network, splits):
    torch.manual_seed(0)
    x, y = torch.from_numpy(splits.x_train[:2400]), torch.from_numpy(splits.y_train[:2400])
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(2):
        for rows in torch.randperm(len(x)).split(64):
            loss = torch.nn.functional.cross_entropy(network(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
