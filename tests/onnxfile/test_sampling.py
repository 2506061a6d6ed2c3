"""Made-up inputs: what the graph says of them, in all dtypes, and replacement of samples that tell nothing."""

import numpy as np
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edgepack.errors import InputError
from edgepack.onnxfile.importing import model_inputs
from edgepack.onnxfile.sampling import constant_outputs, made_up, telling

COUNT = 6


@pytest.fixture
def drawn(tmp_path):
    def draw(text, count=COUNT, **constants):
        model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {text}')
        model.graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
        )
        onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "m.onnx")
        return made_up(tmp_path / "m.onnx", model_inputs(model), count)

    return draw


def values(samples, name):
    return np.stack([sample.inputs[name] for sample in samples])


@pytest.mark.parametrize("rows", [2, 50, 5000])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_ids_cover_their_table(drawn, rows, dtype):
    table = np.random.default_rng(0).standard_normal((rows, 3), "float32")
    samples = drawn(f"g ({dtype}[1, 64] ids) => (float[1, 64, 3] y) {{ y = Gather (t, ids) }}", t=table)
    ids = values(samples, "ids")
    assert ids.min() >= 0
    assert rows * 0.9 - 1 <= ids.max() < rows
    assert not np.array_equal(ids[0], ids[1])


def test_integers_of_unknown_use_are_as_large_as_the_model_accepts(drawn):
    # The path of the index leads through a sum of two inputs, which the analysis does not follow.
    samples = drawn(
        "g (int64[16] a, int64[16] b) => (float[16, 2] y) { i = Add (a, b) y = Gather (t, i) }",
        t=np.arange(40, dtype="float32").reshape(20, 2) + 1,
    )
    total = values(samples, "a") + values(samples, "b")
    assert (total >= -20).all()
    assert (total < 20).all()
    assert total.max() > 5


MASKED = """g (int64[1, 8] ids, {kind}[1, 8] {name}) => (float[1, 3] y)
{{
  e = Gather (t, ids) s = MatMul (e, v) flat = Squeeze (s, last)
  {masked}
  p = Softmax <axis = -1> (w) q = Unsqueeze (p, last) weighted = Mul (e, q) y = ReduceSum <keepdims = 0> (weighted, one)
}}"""
TABLES = {
    "t": np.random.default_rng(1).standard_normal((30, 3)).astype("float32"),
    "v": np.ones((3, 1), "float32"),
    "last": np.array([-1]),
    "one": np.array([1]),
    "zero": np.array(0),
    "lowest": np.array(-np.inf, "float32"),
    "large": np.array(-1e4, "float32"),
    "unit": np.array(1, "float32"),
}


@pytest.mark.parametrize(
    ("kind", "name", "masked", "kept"),
    [
        ("int64", "attention_mask", "m = Equal (attention_mask, zero) w = Where (m, lowest, flat)", 1),
        ("bool", "padding_mask", "w = Where (padding_mask, lowest, flat)", 0),
        ("bool", "valid", "w = Where (valid, flat, lowest)", 1),
        ("bool", "b", "n = Not (b) w = Where (n, lowest, flat)", 1),
        (
            "float",
            "mask",
            "i = Sub (unit, mask) m = Mul (i, large) w = Add (flat, m)",
            1,
        ),
        (
            "int32",
            "segment",
            "f = Cast <to = 1> (segment) i = Sub (unit, f) m = Mul (i, large) w = Add (flat, m)",
            1,
        ),
    ],
)
def test_masks_keep_all_or_leave_a_padded_end(drawn, kind, name, masked, kept):
    samples = drawn(MASKED.format(kind=kind, name=name, masked=masked), **TABLES)
    used = values(samples, name).reshape(COUNT, 8) == kept
    assert used[0].all()
    assert used.any(axis=1).all()
    padded = ~used.all(axis=1)
    assert padded.any()
    assert all(np.array_equal(row, np.sort(row)[::-1]) for row in used)
    assert all(sample.finite for sample in samples)
    assert len({sample.outputs[0].tobytes() for sample in samples}) == COUNT


def test_a_mask_whose_meaning_the_graph_hides_is_found_by_trying(drawn):
    # Zeros keep: all ones would divide by zero.
    samples = drawn(
        "g (float[1, 8] x, float[1, 8] pad_mask) => (float[1] y) { n = Exp (pad_mask) k = Sub (e, n) a = Mul (x, k)"
        " s = ReduceSum <keepdims = 0> (a, one) c = ReduceSum <keepdims = 0> (k, one) y = Div (s, c) }",
        e=np.exp(np.float32(1)),
        one=np.array([1]),
    )
    assert all(sample.finite for sample in samples)


@pytest.mark.parametrize(
    ("text", "constants", "high"),
    [
        ("g (uint8[1, 16, 16, 3] x) => (float y) { f = Cast <to = 1> (x) y = ReduceMean (f) }", {}, 255),
        ("g (float[1, 3, 16, 16] x) => (float y) { f = Div (x, c) y = ReduceMean (f) }", {"c": 255.0}, 255),
        ("g (float[1, 3, 16, 16] x) => (float y) { f = Sub (x, c) y = ReduceMean (f) }", {"c": 0.45}, 1),
    ],
)
def test_pixels_have_the_range_of_their_type_or_of_their_normalisation(drawn, text, constants, high):
    pixels = values(drawn(text, **{k: np.float32(v) for k, v in constants.items()}), "x").astype(float)
    assert pixels.min() >= 0
    assert 0.8 * high < pixels.max() <= high
    means = pixels.reshape(COUNT, -1).mean(axis=1)
    assert means.std() > 0.02 * high  # images differ as wholes, not only in their noise


def test_images_of_unknown_range_are_plain_and_normalised_in_turn(drawn):
    images = values(drawn("g (float[1, 3, 16, 16] x) => (float y) { y = ReduceMean (x) }"), "x")
    assert 0 <= images[0].min() < images[0].max() <= 1
    assert images[1].min() < 0


def test_arguments_of_logarithms_and_roots_are_positive(drawn):
    samples = drawn(
        "g (float[1, 6] x, float[1, 6] z) => (float[1, 6] y) { a = Log (x) b = Sqrt (z) y = Add (a, b) }"
    )
    assert values(samples, "x").min() > 0
    assert values(samples, "z").min() >= 0
    assert all(sample.finite for sample in samples)


def test_a_draw_that_is_not_finite_is_replaced(drawn):
    # The graph's analysis does not see that the product must be positive.
    samples = drawn("g (float[1, 2] x, float[1, 2] z) => (float[1, 2] y) { a = Mul (x, z) y = Log (a) }")
    assert all(sample.finite for sample in samples)


def test_a_model_that_is_never_finite_still_gives_samples(drawn):
    samples = drawn("g (float[1, 2] x) => (float[1, 2] y) { a = Sub (x, x) y = Log (a) }", 2)
    assert [sample.finite for sample in samples] == [False, False]


def test_a_model_that_takes_nothing_is_refused(drawn):
    with pytest.raises(InputError):
        drawn(
            "g (int64[1] x) => (float[1, 2] y) { a = Mul (x, x) i = Add (a, far) y = Gather (t, i) }",
            far=np.array([9] * 3),
            t=np.ones((2, 2), "float32"),
        )


def test_samples_are_the_same_each_time(drawn):
    text = "g (float[1, 3, 8, 8] x, int64[1, 4] i, bool[1, 4] m) => (float y, int64[1, 4] k, bool[1, 4] n) { y = ReduceMean (x) k = Identity (i) n = Not (m) }"
    first, second = drawn(text), drawn(text)
    for a, b in zip(first, second, strict=True):
        assert all(np.array_equal(a.inputs[name], b.inputs[name]) for name in a.inputs)


def test_outputs_that_never_change_are_named():
    changing, fixed, odd = np.arange(3.0), np.ones(2), np.array([np.nan, 1.0])
    assert constant_outputs(["a", "b", "c"], [[changing, fixed, odd], [changing + 1, fixed, odd]]) == [
        "b",
        "c",
    ]
    assert constant_outputs(["a"], [[fixed]]) == []


@pytest.mark.parametrize(
    ("outputs", "tells"),
    [
        ([[0.0, 0]], False),
        ([[np.nan, np.inf]], False),
        ([[]], False),
        ([[0, np.nan, 1]], True),
        ([[0], [2]], True),
    ],
)
def test_what_a_sample_can_tell(outputs, tells):
    assert telling([np.asarray(each) for each in outputs]) is tells


@settings(max_examples=40, deadline=None)
@given(
    dtype=st.sampled_from(
        [
            "int8",
            "uint8",
            "int16",
            "uint16",
            "int32",
            "uint32",
            "int64",
            "uint64",
            "bool",
            "float16",
            "float32",
            "float64",
        ]
    ),
    shape=st.lists(st.integers(1, 5), max_size=4).map(tuple),
)
def test_every_dtype_and_shape_can_be_drawn(tmp_path_factory, dtype, shape):
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, shape)],
    )
    path = tmp_path_factory.mktemp("dtype") / "m.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    (sample, _) = made_up(path, model_inputs(model), 2)
    assert (sample.inputs["x"].dtype, sample.inputs["x"].shape) == (np.dtype(dtype), shape)
