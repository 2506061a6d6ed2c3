"""The classifiers of source code and prose: their data, and what a release of them needs."""

import numpy as np
import pytest

from edgepack.compression import quantize_weights
from edgepack.compression.method import Context
from edgepack.compression.quantize_weights import QuantizeWeights
from edgepack.config.target import load_target
from edgepack.export import predict, relative_error, run_onnx, to_onnx
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
def test_weights_in_int8_shrink_the_file_and_hardly_change_the_outputs(name, splits, tmp_path):

    path = to_onnx(getattr(snippets, name)().eval(), INPUTS, tmp_path / "net.onnx")
    out = tmp_path / "int8.onnx"
    step = QuantizeWeights(method="quantize-weights")
    metrics = quantize_weights.apply(path, out, step, Context(INPUTS, splits))
    least = 2 if name == "transformer" else 3  # its file has many nodes
    assert metrics["size"][0] > least * metrics["size"][1]
    assert count(out).parameters == count(path).parameters
    x = splits.x_test[:100]
    assert relative_error(predict(out, x), predict(path, x)) < 0.03
    compiled = compile_model(out, load_target("x86-64-v3"), tmp_path / "net.so")
    assert sum(each.count for each in compiled.constants if each.encoding == "int8") >= 4
    machine = open_on_host(compiled.path)
    for row in x[:5]:
        ours = machine(row[None])[0]
        np.testing.assert_allclose(ours, run_onnx(out, {"ids": row[None]})[0], atol=1e-4)
