"""What graphs say about their inputs, on small graphs written in ONNX's text syntax."""

from math import inf

import onnx.parser
import pytest

from edgepack.onnxfile.uses import Expected, input_uses


def uses(text, opset=18):
    return input_uses(
        onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1]> {text}')
    )


INDEX = [
    ("Gather <axis = 0> (t, ids)", "float[7, 2] t = {0}", 7),
    ("Gather <axis = 1> (t, ids)", "float[7, 2] t = {0}", 2),
    ("Gather <axis = -1> (t, ids)", "float[7, 3] t = {0}", 3),
    ("GatherElements <axis = 1> (t, ids)", "float[4, 9] t = {0}", 9),
    ("GatherND (t, ids)", "float[8, 6] t = {0}", 6),
    ("OneHot (ids, depth, values)", "int64 depth = {11}, float[2] values = {0, 1}", 11),
]


@pytest.mark.parametrize(("body", "constants", "size"), INDEX)
def test_an_index_stays_within_its_table(body, constants, size):
    constants = constants.replace("{0}", "{" + ", ".join(["0"] * _elements(constants)) + "}")
    found = uses(f"g (int64[1, 2] ids) => (float[*] y) <{constants}> {{ y = {body} }}".replace("[*]", ""))
    assert found["ids"] == Expected(0, size - 1, index=True)


def _elements(constants):
    from math import prod

    return prod(int(size) for size in constants[constants.index("[") + 1 : constants.index("]")].split(","))


TABLE = "float[5, 2] t = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}"

ON_THE_WAY = [
    ("i = Cast <to = 7> (x)", 0, 4),
    ("a = Unsqueeze (x, axis) i = Reshape (a, shape)", 0, 4),
    ("a = Identity (x) b = Transpose (a) i = Flatten (b)", 0, 4),
    ("i = Add (x, two)", -2, 2),
    ("i = Add (two, x)", -2, 2),
    ("i = Sub (x, two)", 2, 6),
    ("i = Sub (two, x)", -2, 2),
    ("a = Neg (x) i = Add (a, two)", -2, 2),
    ("i = Mul (x, two)", 0, 2),
    ("i = Concat <axis = 0> (x, x)", 0, 4),
    ("a, b = Split <axis = 0, num_outputs = 2> (x) i = Identity (a)", 0, 4),
]


@pytest.mark.parametrize(("way", "low", "high"), ON_THE_WAY)
def test_an_index_is_followed_back_to_the_input(way, low, high):
    found = uses(
        f"g (int64[4] x) => (float[4, 2] y) <{TABLE}, int64 two = {{2}}, int64[1] axis = {{0}}, int64[1] shape = {{-1}}>"
        f"{{ {way} y = Gather (t, i) }}"
    )
    assert (found["x"].low, found["x"].high) == (low, high)
    assert found["x"].index


def test_of_two_tables_the_smaller_one_counts():
    found = uses(
        f"g (int64[4] x) => (float[4, 2] y) <{TABLE}, float[3, 2] small = {{0, 1, 2, 3, 4, 5}}>"
        "{ a = Gather (t, x) b = Gather (small, x) y = Add (a, b) }"
    )
    assert found["x"] == Expected(0, 2, index=True)


def test_a_clipped_index_may_be_anything():
    found = uses(
        f"g (int64[4] x) => (float[4, 2] y) <{TABLE}, int64 low = {{0}}, int64 high = {{4}}>"
        "{ i = Clip (x, low, high) y = Gather (t, i) }"
    )
    assert not found.get("x", Expected()).bounded


def test_an_index_in_a_branch_is_seen():
    branch = "b () => (float[4, 2] r) { r = Gather (t, x) }"
    found = uses(
        f"g (int64[4] x, bool c) => (float[4, 2] y) <{TABLE}>"
        f"{{ y = If <then_branch = {branch}, else_branch = {branch.replace('b ()', 'e ()')}> (c) }}"
    )
    assert found["x"] == Expected(0, 4, index=True)


def test_an_index_in_a_local_function_is_seen():
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 18, "own" : 1]> g (int64[4] x) => (float[4, 2] y) <{TABLE}>'
        "{ y = own.Look (t, x) }"
        '<domain: "own", opset_import: ["" : 18]> Look (table, ids) => (r) { r = Gather (table, ids) }'
    )
    assert input_uses(model)["x"] == Expected(0, 4, index=True)


@pytest.mark.parametrize(
    ("body", "low", "high"),
    [
        ("y = Log (x)", 1e-6, inf),
        ("a = Add (x, one) y = Log (a)", 1e-6 - 1, inf),
        ("y = Sqrt (x)", 0, inf),
        ("a = MatMul (x, w) b = ReduceSum (a) y = Log (b)", 0, inf),
        ("y = Acos (x)", -1, 1),
        ("a = Div (x, two) y = Asin (a)", -2, 2),
        ("a = Neg (x) y = Sqrt (a)", -inf, 0),
        ("y = Exp (x)", -inf, 10),
    ],
)
def test_a_function_is_given_what_it_is_defined_for(body, low, high):
    found = uses(
        "g (float[1, 2] x) => (float y) <float one = {1}, float two = {2}, float[2, 2] w = {1, 0, 0, 1}>"
        f"{{ {body} }}"
    )
    assert (found["x"].low, found["x"].high) == pytest.approx((low, high))


@pytest.mark.parametrize(
    "body",
    [
        "a = Relu (x) y = Sqrt (a)",
        "a = Mul (x, x) y = Sqrt (a)",
        "a = Softmax (x) y = Log (a)",
        "a = Max (x, one) y = Log (a)",
        "a = Exp (x) y = Log (a)",
    ],
)
def test_what_is_defined_anyway_needs_nothing_positive(body):
    found = uses(f"g (float[1, 2] x) => (float[1, 2] y) <float one = {{1}}> {{ {body} }}")
    assert found.get("x", Expected()).low == -inf


NEGATIVE = "float lowest = {-10000}, float one = {1}, int64 zero = {0}"


@pytest.mark.parametrize(
    ("kind", "body", "kept"),
    [
        ("bool", "y = Where (mask, scores, lowest)", 1),
        ("bool", "y = Where (mask, lowest, scores)", -1),
        ("bool", "n = Not (mask) y = Where (n, lowest, scores)", 1),
        ("bool", "u = Unsqueeze (mask, zero1) e = Expand (u, shape) y = Where (e, lowest, scores)", -1),
        ("int64", "e = Equal (mask, zero) y = Where (e, lowest, scores)", 1),
        ("int64", "e = Greater (mask, zero) y = Where (e, scores, lowest)", 1),
        ("int64", "b = Cast <to = 9> (mask) y = Where (b, scores, lowest)", 1),
        ("int64", "f = Cast <to = 1> (mask) i = Sub (one, f) m = Mul (i, lowest) y = Add (scores, m)", 1),
        ("int64", "f = Cast <to = 1> (mask) y = Mul (scores, f)", 1),
        ("int32", "f = Cast <to = 1> (mask) m = Mul (f, lowest) y = Add (scores, m)", -1),
    ],
)
def test_a_mask_says_which_values_it_keeps(kind, body, kept):
    found = uses(
        f"g ({kind}[1, 4] mask, float[1, 4] scores) => (float y) <{NEGATIVE}, int64[1] zero1 = {{0}}, int64[3] shape = {{1, 1, 4}}> {{ {body} }}"
    )
    assert found["mask"].kept == kept


def test_the_id_of_padding_is_found():
    found = uses(
        f"g (int64[1, 4] ids, float[1, 4] scores) => (float y, float z) <{TABLE}, int64 pad = {{1}}, float lowest = {{-10000}}>"
        "{ e = Equal (ids, pad) y = Where (e, lowest, scores) z = Gather (t, ids) }"
    )
    assert found["ids"].padding == 1
    assert (found["ids"].low, found["ids"].high) == (0, 4)


def test_lengths_count_the_steps_of_a_sequence():
    found = uses(
        "g (float[6, 2, 3] x, int32[2] lengths, int64[2] steps, int64[2, 1] compared) => (float y, float z, float m)"
        "<float[1, 8, 3] w = {"
        + ", ".join(["0"] * 24)
        + "}, float[1, 8, 2] r = {"
        + ", ".join(["0"] * 16)
        + "},"
        " int64[1, 4] positions = {0, 1, 2, 3}, float none = {0}>"
        "{ y = LSTM <hidden_size = 2> (x, w, r, , lengths) z = ReverseSequence (x, steps)"
        "  c = Less (positions, compared) m = Where (c, x, none) }"
    )
    assert found["lengths"] == Expected(1, 6, index=True)
    assert found["steps"] == Expected(1, 6, index=True)
    assert (found["compared"].low, found["compared"].high) == (1, 4)


@pytest.mark.parametrize(
    ("body", "white"),
    [
        ("f = Cast <to = 1> (x) y = Div (f, white)", 255),
        ("f = Cast <to = 1> (x) y = Mul (f, step)", 255),
        ("f = Cast <to = 1> (x) s = Sub (f, mean) y = Div (s, white)", 255),
        ("f = Cast <to = 1> (x) y = Sub (f, half)", 1),
        ("y = Cast <to = 1> (x)", None),
    ],
)
def test_constants_that_normalise_pixels_say_how_bright_they_are(body, white):
    found = uses(
        "g (float[1, 3, 8, 8] x) => (float y) <float white = {255}, float step = {0.00392}, float mean = {123.7}, float half = {0.45}>"
        f"{{ {body} }}"
    )
    assert found.get("x", Expected()).pixels == white


def test_the_masks_and_ids_of_fused_transformers_are_known():
    table = "{" + ", ".join(["0"] * 12) + "}"
    found = uses(
        "g (int32[1, 4] ids, int32[1, 4] segments, int32[1, 4] mask) => (float y, int32 m)"
        f"<float[6, 2] words = {table}, float[6, 2] places = {table}, float[2, 2] kinds = {{0, 0, 0, 0}}, float[2] g = {{1, 1}}>"
        "{ y, m = com.microsoft.EmbedLayerNormalization (ids, segments, words, places, kinds, g, g, mask) }"
    )
    assert found["ids"] == Expected(0, 5, index=True)
    assert found["segments"] == Expected(0, 1, index=True)
    assert found["mask"].kept == 1


def test_sizes_of_outputs_are_kept_small():
    found = uses(
        "g (int64[4] sizes, int64[1] shape, int64[4] repeats, float[1, 1, 4, 4] x) => (float y, float z, float t)"
        "{ y = Resize (x, , , sizes) z = ConstantOfShape (shape) t = Tile (x, repeats) }"
    )
    assert {(found[name].low, found[name].high) for name in ("sizes", "shape", "repeats")} == {(1, 4)}


def test_division_by_zero_is_avoided_for_integers():
    found = uses("g (int64[2] x, int64[2] by) => (int64[2] y) { y = Div (x, by) }")
    assert found["by"].low == 1
    assert "x" not in found
