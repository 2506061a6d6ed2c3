"""Every encoding, in the forms that are written and in those that others write, against decoders in NumPy."""

import math

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgepack.config.target import load_target
from edgepack.lower import compile_model
from edgepack.lower.host import open_on_host
from edgepack.onnxfile.counting import count
from edgepack.onnxfile.encodings import encoded_constants
from edgepack.onnxfile.importing import import_onnx


class Form:
    """Nodes and constants that decode a weight, and the weight as NumPy decodes it."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, values, kind=None):
        name = f"c{len(self.constants)}"
        values = np.asarray(values, kind)
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def node(self, operator, *inputs, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def cast(self, value, to):
        return self.node("Cast", value, to=to)

    def reshape(self, value, *shape):
        return self.node("Reshape", value, self.constant(shape, "int64"))

    def model(self, weight, shape, opset=21):
        """``y = x * weight`` for a number x."""
        graph = helper.make_graph(
            [*self.nodes, helper.make_node("Mul", ["x", weight], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, list(shape))],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def values(random, *shape):
    return random.standard_normal(shape).astype("float32")


def int8_per_channel(form, random, rows, columns):
    elements = random.integers(-128, 128, (rows, columns)).astype("int8")
    scale = values(random, rows)
    inputs = [form.constant(elements), form.constant(scale), form.constant(np.zeros(rows, "int8"))]
    return form.node("DequantizeLinear", *inputs, axis=0), elements * scale[:, None], "int8"


def int8_with_a_16_bit_scale(form, random, rows, columns):
    elements = random.integers(-128, 128, (rows, columns)).astype("int8")
    scale = values(random, rows).astype("float16")
    wide = form.cast(form.constant(scale), TensorProto.FLOAT)
    return (
        form.node("DequantizeLinear", form.constant(elements), wide, axis=0),
        elements * scale.astype("float32")[:, None],
        "int8",
    )


def int4_in_blocks(form, random, rows, columns):
    elements = random.integers(-8, 8, (rows, 8 * columns)).astype("int8")
    scale = values(random, rows, columns)
    packed = helper.make_tensor(f"c{len(form.constants)}", TensorProto.INT4, elements.shape, elements.ravel())
    form.constants.append(packed)
    decoded = form.node("DequantizeLinear", packed.name, form.constant(scale), axis=1, block_size=8)
    return decoded, elements * np.repeat(scale, 8, 1), "int4"


def int4_times_scale(form, random, rows, columns):
    elements = random.integers(-8, 8, (rows, columns, 16)).astype("int8")
    elements[0, 0, :2] = -8, 7
    scale = values(random, rows, columns, 1)
    number = form.cast(form.constant(elements), TensorProto.FLOAT)
    decoded = form.reshape(form.node("Mul", number, form.constant(scale)), rows, 16 * columns)
    return decoded, (elements * scale).reshape(rows, -1), "int4"


def uint8_times_scale(form, random, rows, columns):
    elements = random.integers(0, 256, (rows, columns)).astype("uint8")
    elements[0, :2] = 0, 255
    scale = values(random, rows, 1)
    return (
        form.node("Mul", form.constant(scale), form.cast(form.constant(elements), TensorProto.FLOAT)),
        elements * scale,
        "uint8",
    )


def scalars(form, random, rows, columns, *, entries=16, kind="int64"):
    table, codes = values(random, entries), random.integers(0, entries, (rows, columns))
    indices = (
        form.cast(form.constant(codes, kind), TensorProto.INT64) if kind != "int64" else form.constant(codes)
    )
    return form.node("Gather", form.constant(table), indices), table[codes], "codebook"


def scalars_of_200(form, random, rows, columns):
    return scalars(form, random, 4 * rows, 8 * columns, entries=200, kind="uint8")


def scalars_of_a_16_bit_table(form, random, rows, columns):
    table, codes = values(random, 16).astype("float16"), random.integers(0, 16, (rows, columns))
    wide = form.cast(form.constant(table), TensorProto.FLOAT)
    return form.node("Gather", wide, form.constant(codes)), table.astype("float32")[codes], "codebook"


def integers_of_a_table(form, random, rows, columns):
    table, codes = random.integers(-128, 128, 16).astype("int8"), random.integers(0, 16, (rows, columns))
    scale = values(random, rows)
    taken = form.node("Gather", form.constant(table), form.constant(codes))
    decoded = form.node("DequantizeLinear", taken, form.constant(scale), axis=0)
    return decoded, table[codes] * scale[:, None], "codebook"


def vectors(form, random, rows, columns):
    table, codes = values(random, 8, 4), random.integers(0, 8, rows * columns)
    taken = form.node("Gather", form.constant(table), form.constant(codes))
    moved = form.node("Transpose", form.reshape(taken, rows, columns, 4), perm=[0, 2, 1])
    return moved, table[codes].reshape(rows, columns, 4).transpose(0, 2, 1), "vector-codebook"


def vectors_and_means(form, random, rows, columns):
    table, codes, means = values(random, 8, 4), random.integers(0, 8, rows * columns), values(random, rows, 1)
    taken = form.reshape(form.node("Gather", form.constant(table), form.constant(codes)), rows, 4 * columns)
    decoded = form.node("Add", taken, form.constant(means))
    return decoded, table[codes].reshape(rows, 4 * columns) + means, "vector-codebook"


def vectors_under_a_mask(form, random, rows, columns):
    table, codes = values(random, 8, 4), random.integers(0, 8, rows * columns)
    mask = random.integers(0, 2, (rows, 4 * columns)).astype("uint8")
    taken = form.reshape(form.node("Gather", form.constant(table), form.constant(codes)), rows, 4 * columns)
    decoded = form.node("Mul", taken, form.cast(form.constant(mask), TensorProto.FLOAT))
    return decoded, table[codes].reshape(rows, 4 * columns) * mask, "vector-codebook"


def scalars_with_a_zero(form, random, rows, columns):
    table, codes = values(random, 15), random.integers(0, 16, (rows, columns))
    whole = form.node("Concat", form.constant([0], "float32"), form.constant(table), axis=0)
    decoded = form.node("Gather", whole, form.constant(codes))
    return decoded, np.concatenate([np.zeros(1, "float32"), table])[codes], "codebook"


def hashed(form, random, rows, columns):
    size, table = rows * columns, values(random, 1 + rows * columns // 8)
    prime, a, b = (1 << 31) - 1, int(random.integers(1, 1 << 30)), int(random.integers(1 << 30))
    positions = form.node("Range", *(form.constant(n, "int64") for n in (0, size, 1)))
    number = form.node("Mul", positions, form.constant(a, "int64"))
    number = form.node(
        "Mod", form.node("Add", number, form.constant(b, "int64")), form.constant(prime, "int64")
    )
    number = form.node("Mod", number, form.constant(2 * len(table), "int64"))
    stored = form.constant(table)
    both = form.node("Concat", stored, form.node("Neg", stored), axis=0)
    decoded = form.reshape(form.node("Gather", both, number), rows, columns)
    index = (np.arange(size) * a + b) % prime % (2 * len(table))
    return decoded, np.concatenate([table, -table])[index].reshape(rows, columns), "hashed"


def pulse_vectors(form, random, rows, columns, count=5):
    elements = np.zeros((rows * columns, 8), "int8")
    for row in elements[1:]:  # the first vector has no pulses
        np.add.at(row, random.integers(0, 8, count), 1)
    elements *= random.choice([-1, 1], elements.shape).astype("int8")
    scale = values(random, rows * columns, 1)
    number = form.cast(form.constant(elements), TensorProto.FLOAT)
    decoded = form.reshape(form.node("Mul", number, form.constant(scale)), rows, 8 * columns)
    return decoded, (elements * scale).reshape(rows, -1), "pulses"


def ternary(form, random, rows, columns):
    elements = random.integers(-1, 2, (rows, columns, 3, 3)).astype("int8")
    elements[0, 0, 0] = -1, 0, 1
    scale = values(random, rows, 1, 1, 1)
    number = form.cast(form.constant(elements), TensorProto.FLOAT)
    return form.node("Mul", number, form.constant(scale)), elements * scale, "2-bit"


def binary(form, random, rows, columns):
    elements = random.choice([-1, 1], (rows, columns, 3, 3)).astype("int8")
    elements[0, 0, 0] = -1, 1, 1
    scale = values(random, rows, 1, 1, 1)
    number = form.cast(form.constant(elements), TensorProto.FLOAT)
    return form.node("Mul", number, form.constant(scale)), elements * scale, "1-bit"


def float16(form, random, rows, columns):
    elements = values(random, rows, columns).astype("float16")
    return form.cast(form.constant(elements), TensorProto.FLOAT), elements.astype("float32"), "float16"


def bfloat16(form, random, rows, columns):
    whole = values(random, rows, columns)
    bits = (whole.view("uint32") >> 16).astype("uint16")
    stored = helper.make_tensor(
        f"c{len(form.constants)}", TensorProto.BFLOAT16, whole.shape, bits.tobytes(), raw=True
    )
    form.constants.append(stored)
    decoded = (bits.astype("uint32") << 16).view("float32")
    return form.cast(stored.name, TensorProto.FLOAT), decoded, "bfloat16"


FORMS = [
    int8_per_channel, int8_with_a_16_bit_scale, int4_in_blocks, int4_times_scale, uint8_times_scale, scalars,
    scalars_of_200, scalars_of_a_16_bit_table, scalars_with_a_zero, integers_of_a_table, vectors, vectors_and_means, vectors_under_a_mask, hashed, pulse_vectors, ternary, binary,
    float16, bfloat16,
]  # fmt: skip
BITS = {"1-bit": 1, "2-bit": 2, "int4": 4, "pulses": 4, "codebook": 4, "float16": 16, "bfloat16": 16}


def run(path):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    return session.run(None, {"x": np.ones(1, "float32")})[0]


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(4, 24), columns=st.integers(9, 40), seed=st.integers(0, 2**32 - 1))
def test_a_decoded_constant_is_numpys_before_and_after_import(form, rows, columns, seed, tmp_path):
    made = Form()
    weight, expected, encoding = form(made, np.random.default_rng(seed), rows, columns)
    onnx.save(made.model(weight, expected.shape), tmp_path / "own.onnx")
    np.testing.assert_array_equal(run(tmp_path / "own.onnx"), expected)
    import_onnx(tmp_path / "own.onnx", (), tmp_path / "m.onnx")
    np.testing.assert_array_equal(run(tmp_path / "m.onnx"), expected)
    (found,) = encoded_constants(onnx.load(tmp_path / "m.onnx"))
    assert (found.encoding, found.dtype, found.shape) == (encoding, "float32", expected.shape)
    assert found.dense_bytes == 4 * expected.size
    counts = count(tmp_path / "m.onnx")
    assert counts.encodings == {encoding: found.stored_bytes}
    assert counts.parameters == expected.size
    import_onnx(tmp_path / "m.onnx", (), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "m.onnx").read_bytes()


@pytest.mark.parametrize("form", [int4_times_scale, scalars, pulse_vectors, ternary, binary])
def test_small_integers_are_packed(form, tmp_path):
    made = Form()
    weight, expected, encoding = form(made, np.random.default_rng(0), 16, 63)
    onnx.save(made.model(weight, expected.shape), tmp_path / "own.onnx")
    import_onnx(tmp_path / "own.onnx", (), tmp_path / "m.onnx")
    tensors = {each.name: each for each in onnx.load(tmp_path / "m.onnx").graph.initializer}
    (found,) = encoded_constants(onnx.load(tmp_path / "m.onnx"))
    assert math.prod(tensors[found.name].dims) == expected.size * BITS[encoding] // 8
    assert tensors[found.name].data_type == TensorProto.UINT8


def test_codes_may_be_smaller_than_what_unpacks_them(tmp_path):
    made = Form()
    weight, expected, _ = scalars(made, np.random.default_rng(0), 4, 19, entries=2)
    onnx.save(made.model(weight, expected.shape), tmp_path / "own.onnx")
    import_onnx(tmp_path / "own.onnx", (), tmp_path / "m.onnx")
    np.testing.assert_array_equal(run(tmp_path / "m.onnx"), expected)
    tensors = {each.name: each for each in onnx.load(tmp_path / "m.onnx").graph.initializer}
    assert max(len(each.raw_data) for each in tensors.values()) > 10  # a shape
    (found,) = encoded_constants(onnx.load(tmp_path / "m.onnx"))
    assert (tensors[found.name].data_type, tensors[found.name].dims[0]) == (TensorProto.UINT8, 10)
    assert count(tmp_path / "m.onnx").parameters == expected.size


@pytest.mark.parametrize("form", FORMS)
def test_a_compiled_model_decodes_as_numpy_does(form, tmp_path):
    """It stores the encoded form alone, and decodes it when it is loaded."""

    made = Form()
    weight, expected, encoding = form(made, np.random.default_rng(1), 36, 63)
    onnx.save(made.model(weight, expected.shape), tmp_path / "own.onnx")
    import_onnx(tmp_path / "own.onnx", (), tmp_path / "m.onnx")
    (constant,) = encoded_constants(onnx.load(tmp_path / "m.onnx"))
    result = compile_model(tmp_path / "m.onnx", load_target("x86-64-v3"), tmp_path / "m.so")
    (summary,) = result.constants
    known = "int8" if form is int4_in_blocks else encoding  # widened
    assert (summary.encoding, summary.decoded, summary.count) == (known, "load", 1)
    assert summary.stored_bytes <= summary.raw_bytes < expected.nbytes
    assert summary.stored_bytes <= 1.1 * constant.stored_bytes
    assert summary.resident_bytes == expected.nbytes
    (got,) = open_on_host(result.path)(np.ones(1, "float32"))
    np.testing.assert_array_equal(got, expected)
