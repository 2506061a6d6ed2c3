"""Forms of every operator whose definition changed: each of its attributes away from the default, at each version."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import defs, helper, numpy_helper

from edgepack.onnxfile.sessions import open_session, run_session

OLDEST = 7
NEWEST = defs.onnx_opset_version()
RNG = np.random.default_rng(0)
IMAGE = (2, 4, 6, 7)


@dataclass
class X:
    """An input of the model."""

    shape: tuple = (2, 3, 4, 5)
    dtype: str = "float32"
    before: str = ""  # an operator that is applied to it first


@dataclass
class Form:
    """A node: its inputs in order (X, a constant, or None if it is omitted), attributes and number of outputs.

    ``returned`` outputs are those of the model, by default all; ``refused`` is part of the reason why it is refused.
    """

    inputs: list = field(default_factory=lambda: [X()])
    attributes: dict = field(default_factory=dict)
    outputs: int = 1
    returned: int = 0
    refused: str = ""

    def __str__(self):
        shown = {name: value for name, value in self.attributes.items() if not hasattr(value, "node")}
        given = [x.dtype if isinstance(x, X) else "-" if x is None else "c" for x in self.inputs]
        return f"{','.join(given)} {shown}"


def i64(*values):
    return np.array(values, "int64")


def f32(*shape):
    return RNG.standard_normal(shape).astype("float32")


def with_each(*changes, base=None, inputs=None, outputs=1):
    """A form with these attributes, and one more for each change."""
    base = base or {}
    made = inputs or (lambda: [X()])
    return [Form(made(), {**base, **change}, outputs) for change in ({}, *changes)]


UNARY = """
    Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Erf Exp Floor GlobalAveragePool GlobalMaxPool HardSwish Identity
    IsNaN Log Mish Neg Reciprocal Relu Round Shape Sigmoid Sign Sin Sinh Size Softplus Softsign Sqrt Tan Tanh
"""
BINARY = "Add Div Greater GreaterOrEqual Less LessOrEqual Mul PRelu Pow Sub"
VARIADIC = "Max Mean Min Sum"
REDUCE = """
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
"""
CHANGES = {  # attributes of operators of one input, each away from its default
    "Celu": [{"alpha": 0.4}],
    "Elu": [{"alpha": 0.3}],
    "GlobalLpPool": [{"p": 1}],
    "HardSigmoid": [{"alpha": 0.3}, {"beta": 0.4}],
    "IsInf": [{"detect_negative": 0}, {"detect_positive": 0}],
    "LeakyRelu": [{"alpha": 0.3}],
    "LpNormalization": [{"axis": 1}, {"p": 1}],
    "Selu": [{"alpha": 0.9}, {"gamma": 1.2}],
    "ThresholdedRelu": [{"alpha": 0.3}],
    "Transpose": [{"perm": [0, 3, 1, 2]}],
}
WINDOWS = [
    {"strides": [2, 3]},
    {"pads": [1, 0, 1, 1]},
    {"auto_pad": "SAME_UPPER"},
    {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    {"auto_pad": "VALID"},
]


def forms(op: str, v: int) -> list[Form]:
    """Forms of an operator's version ``v``; each attribute that this version has is in one of them."""
    if op in UNARY.split():
        plain = [Form(outputs=1)]
        return (
            [*plain, Form(attributes={"start": 1}), Form(attributes={"end": -1})]
            if op == "Shape" and v >= 15
            else plain
        )
    if op in CHANGES:
        return with_each(*CHANGES[op])
    if op in BINARY.split():
        return [Form([X(), X((4, 5))]), Form([X(), f32(3, 1, 1)])]
    if op in VARIADIC.split():
        same = X() if v < 8 else X((4, 1))
        return [Form([X(), same]), Form([X()]), Form([X(), X(), X()])]
    if op in REDUCE.split():
        return _reduce(op, v)
    return SPECIAL[op](v)


def _reduce(op, v):
    as_input = v >= (13 if op == "ReduceSum" else 18)

    def form(axes, **attributes):
        if axes is None:
            return Form([X()], attributes)
        return Form([X(), i64(*axes)], attributes) if as_input else Form([X()], {"axes": axes, **attributes})

    made = [form(None), form([1]), form([0, 2], keepdims=0), form(None, keepdims=0)]
    if v >= 11:
        made.append(form([-1]))
    if as_input:
        made += [form(None, noop_with_empty_axes=1), form([], noop_with_empty_axes=0)]
    return made


def _norm(v):
    made = with_each({"axis": 0}, {"axis": 2}, {"axis": 3})
    if v >= 11:
        made += with_each({"axis": -1}, {"axis": -2})
    return [*made, Form([X((2, 5))]), Form([X((2, 5, 1, 1))]), Form([X((2, 1, 4, 1))], {"axis": 1})]


def _arg(v):

    def tied():
        return [X(before="Sign" if v > 9 else "")]

    made = with_each({"axis": 2}, {"keepdims": 0}, inputs=tied)
    return made + (with_each({"select_last_index": 1}, inputs=tied) if v >= 12 else [])


def _pool(op, v):
    base = {"kernel_shape": [3, 2]}
    changes = list(WINDOWS)
    if op == "AveragePool":
        changes += [{"count_include_pad": 1, "pads": [1, 1, 1, 1]}]
    if op == "LpPool":
        changes += [{"p": 1}]
    first_ceil = {"AveragePool": 10, "MaxPool": 10, "LpPool": 18}[op]
    if v >= first_ceil:
        changes += [{"ceil_mode": 1, "strides": [2, 2]}]
    if v >= {"AveragePool": 19, "MaxPool": 10, "LpPool": 18}[op]:
        changes += [{"dilations": [2, 1]}]
    made = with_each(*changes, base=base, inputs=lambda: [X(IMAGE)])
    if op == "MaxPool" and v >= 8:
        made += [Form([X(IMAGE)], {**base, **more}, 2) for more in ({}, {"storage_order": 1})]
    return made


def _conv(v):
    made = with_each(
        *WINDOWS, {"dilations": [2, 1]}, {"kernel_shape": [3, 2]}, inputs=lambda: [X(IMAGE), f32(6, 4, 3, 2)]
    )
    return [*made, Form([X(IMAGE), f32(6, 2, 3, 3), f32(6)], {"group": 2})]


def _conv_transpose(v):

    def weight():
        return [X(IMAGE), f32(4, 5, 3, 2)]

    changes = [
        *WINDOWS,
        {"dilations": [2, 1]},
        {"kernel_shape": [3, 2]},
        {"output_padding": [1, 0], "strides": [2, 2]},
        {"output_shape": [13, 14], "strides": [2, 2]},
        {"output_shape": [11, 12], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"output_shape": [11, 12], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    ]
    return [*with_each(*changes, inputs=weight), Form([X(IMAGE), f32(4, 2, 3, 2), f32(4)], {"group": 2})]


def _batch_norm(v):

    def spread(*shape):
        return (f32(*shape) ** 2 + 0.5).astype("float32")

    made = with_each(
        {"epsilon": 0.1}, {"momentum": 0.5}, inputs=lambda: [X(IMAGE), f32(4), f32(4), f32(4), spread(4)]
    )
    if v < 9:
        shape = IMAGE[1:]
        made.append(Form([X(IMAGE), f32(*shape), f32(*shape), f32(*shape), spread(*shape)], {"spatial": 0}))
    if v < 14:
        inputs = [X(IMAGE), f32(4), f32(4), f32(4), spread(4)]
        made += [Form(inputs, {"momentum": 0.7}, 5, returned) for returned in (1, 3)]
        made.append(Form(inputs, {}, 5, refused="saved statistics"))
    else:
        training = {"training_mode": 1, "momentum": 0.7, "epsilon": 0.01}
        inputs = [X(IMAGE), f32(4), f32(4), f32(4), spread(4)]
        made += [Form(inputs, training, 3, returned) for returned in (1, 3)]
    return made


def _clip(v):
    if v < 11:
        return with_each({"min": -0.5}, {"max": 0.4}, {"min": -0.3, "max": 0.6})
    low, high = np.float32(-0.5), np.float32(0.4)
    return [Form(), Form([X(), low]), Form([X(), None, high]), Form([X(), low, high])]


def _pad(v):
    pads, made = [0, 1, 0, 2, 1, 0, 3, 1], []
    modes = ("constant", "reflect", "edge", *(("wrap",) if v >= 19 else ()))
    if v < 11:
        made = [Form([X()], {"pads": pads, "mode": mode}) for mode in modes]
        return [
            *made,
            Form([X()], {"pads": pads, "value": 1.5}),
            Form([X()], {"pads": [0, 0, -1, 0, 0, 0, -1, 0]}),
        ]
    made = [Form([X(), i64(*pads)], {"mode": mode}) for mode in modes]
    made += [Form([X(), i64(*pads), np.float32(1.5)]), Form([X(), i64(0, 0, -1, 0, 0, 0, -1, 0)])]
    if v >= 18:
        made.append(Form([X(), i64(1, 2, 0, 1), None, i64(1, -1)]))
    return made


def _slice(v):
    if v < 10:
        return with_each(
            {"axes": [1, 3], "starts": [1, -3], "ends": [2, -1]},
            {"axes": [2], "starts": [-100], "ends": [2**31 - 1]},
            base={"starts": [0, 1], "ends": [1, 3]},
        )[0:3]
    made = [Form([X(), i64(0, 1), i64(1, 3)]), Form([X(), i64(1, -3), i64(2, -1), i64(1, 3)])]
    return [*made, Form([X(), i64(0, -1), i64(100, -100), i64(2, 3), i64(2, -1)])]


def _split(v):
    if v < 13:
        return with_each(
            {"axis": 2, "split": [1, 3]}, {"axis": 2}, {"split": [1, 1]}, inputs=lambda: [X()], outputs=2
        )
    made = [Form([X(), i64(1, 3)], {"axis": 2}, 2), Form([X(), i64(1, 1)], {}, 2)]
    if v < 18:
        return [*made, Form([X()], {"axis": 2}, 2), Form([X()], {}, 2)]
    return [
        *made,
        Form([X()], {"axis": 3, "num_outputs": 2}, 2),
        Form([X()], {"axis": -1, "num_outputs": 5}, 5),
    ]


def _axes(v, shape, axes):
    if v < 13:
        made = [Form([X(shape)], {"axes": each}) for each in axes if v >= 11 or min(each) >= 0]
    else:
        made = [Form([X(shape), i64(*each)]) for each in axes]
    return made


def _top_k(v):
    if v < 10:
        return [Form([X()], {"k": 2}, 2), Form([X()], {"k": 3, "axis": 2}, 2)]
    made = [Form([X(), i64(2)], {}, 2), Form([X(), i64(3)], {"axis": 2}, 2)]
    if v >= 11:
        made += [Form([X(), i64(2)], {"largest": 0}, 2), Form([X(), i64(4)], {"sorted": 0, "axis": -2}, 2)]
    return made


def _resize(v):

    def data():
        return X((1, 2, 4, 5))

    scales = [[1, 1, 2, 2], [1, 1, 1.6, 1.5], [1, 1, 0.6, 0.6], [1, 1, 2, 0.5], [1, 1, 0.5, 1]]
    modes = ("nearest", "linear", *(("cubic",) if v >= 11 else ()))
    if v < 11:
        return [Form([data(), np.array(s, "float32")], {"mode": m}) for m in modes for s in scales] + [
            Form([data(), np.array(scales[0], "float32")])
        ]

    def roi():
        return None if v >= 13 else np.zeros(0, "float32")

    made = []
    coordinates = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
    coordinates += ["half_pixel_symmetric"] if v >= 19 else []
    for mode in modes:
        for s in scales:
            made += [
                Form(
                    [data(), roi(), np.array(s, "float32")],
                    {"mode": mode, "coordinate_transformation_mode": c},
                )
                for c in coordinates
            ]

    def up():
        return np.array(scales[1], "float32")

    for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        made.append(Form([data(), roi(), up()], {"nearest_mode": rounding}))
    made += [
        Form([data(), roi(), up()], {"mode": "cubic", "cubic_coeff_a": -0.5}),
        Form([data(), roi(), up()], {"mode": "cubic", "exclude_outside": 1}),
        Form(
            [data(), roi(), np.zeros(0, "float32") if v < 13 else None, i64(1, 2, 7, 9)], {"mode": "linear"}
        ),
        Form(
            [
                data(),
                np.array([0, 0, 0.1, -0.5, 1, 1, 0.9, 1.4], "float32"),
                np.array([1, 1, 2, 2], "float32"),
            ],
            {
                "mode": "linear",
                "coordinate_transformation_mode": "tf_crop_and_resize",
                "extrapolation_value": 3.0,
            },
        ),
    ]
    if v == 11:
        rounded = {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"}
        made += [Form([data(), roi(), np.array(s, "float32")], dict(rounded)) for s in scales]
    if v >= 18:
        made += [
            Form([data(), None, np.array(scales[2], "float32")], {"mode": "linear", "antialias": 1}),
            Form([data(), None, np.array([2, 3], "float32")], {"mode": "linear", "axes": [2, 3]}),
            *(
                Form([data(), None, None, i64(9, 7)], {"axes": [2, 3], "keep_aspect_ratio_policy": policy})
                for policy in ("not_larger", "not_smaller")
            ),
        ]
    return made


def _upsample(v):
    made = []
    for mode in ("nearest", "linear"):
        for scales in ([1, 1, 2, 2], [1, 1, 1.6, 1.5], [1, 1, 3, 1]):
            inputs = [X((1, 2, 4, 5))] + ([np.array(scales, "float32")] if v >= 9 else [])
            more = {} if v >= 9 else {"scales": [float(s) for s in scales]}
            made.append(Form(inputs, {"mode": mode, **more}))
    return made


def _quantize(v):
    scale, zero = np.float32(0.05), np.uint8(120)
    made = [Form([X(), scale, zero]), Form([X(), scale])]
    if v >= 13:

        def many(n):
            return (f32(n) ** 2 + 0.02).astype("float32")

        made += [
            Form([X(), many(3), np.arange(3, dtype="int8")]),
            Form([X(), many(5), np.zeros(5, "int8")], {"axis": -1}),
        ]
    if v >= 19:
        eight = np.array(0, helper.tensor_dtype_to_np_dtype(T.FLOAT8E4M3FN))
        made += [Form([X(), scale, eight], {"saturate": 0})]
    if v >= 21:
        made += [
            Form(
                [X((4, 6)), (f32(4, 2) ** 2 + 0.02).astype("float32"), np.zeros((4, 2), "uint8")],
                {"axis": 1, "block_size": 3},
            ),
            Form([X(), scale], {"output_dtype": T.INT8}),
        ]
    if v >= 23:
        made += [Form([X(), scale, zero], {"precision": T.FLOAT})]
    return made


def _dequantize(v):

    def codes(*shape):
        return X(shape or (2, 3, 4, 5), "int8")

    made = [Form([codes(), np.float32(0.05), np.int8(3)]), Form([codes(), np.float32(0.05)])]
    if v >= 13:
        made += [Form([codes(), f32(3), np.arange(3, dtype="int8")]), Form([codes(), f32(5)], {"axis": -1})]
    if v >= 21:
        made += [Form([codes(4, 6), f32(4, 2)], {"axis": 1, "block_size": 3})]
    if v >= 23:
        made += [Form([codes(), np.float32(0.05)], {"output_dtype": T.FLOAT})]
    return made


def _cast(v):
    made = [
        Form([X()], {"to": T.INT32}),
        Form([X()], {"to": T.FLOAT16}),
        Form([X(dtype="int64")], {"to": T.FLOAT}),
    ]
    made += [Form([X()], {"to": T.BOOL})]
    rounded = {"to": T.INT8, "round_mode": "nearest"}
    return made + ([Form([X()], rounded, refused="round_mode is new in opset")] if v >= 24 else [])


def _cast_like(v):
    like = np.zeros(1, "int32")
    rounded = Form([X(), like], {"round_mode": "nearest"})  # its definition is a Cast
    return [Form([X(), like]), *([rounded] if v >= 24 else [])]


def _dropout(v):
    if v < 12:
        mask = Form([X()], {}, 2, refused="mask of Dropout")
        return [Form(), Form([X()], {"ratio": 0.3}), Form([X()], {}, 2, 1), mask]
    off = np.array(False)
    return [Form(), Form([X(), np.float32(0.3)]), Form([X(), np.float32(0.3), off], {"seed": 3})]


def _recurrent(op, v):
    gates, size, width = {"RNN": 1, "GRU": 3, "LSTM": 4}[op], 4, 3

    def form(directions=1, outputs=1, first=True, layout=0, **attributes):
        weights = [f32(directions, gates * size, width), f32(directions, gates * size, size)]
        bias = [f32(directions, 2 * gates * size)] if first else []
        steps = (2, 5, width) if layout else (5, 2, width)
        more = {"layout": layout} if layout else {}
        return Form([X(steps), *weights, *bias], {"hidden_size": size, **more, **attributes}, outputs)

    kinds = {
        "RNN": ["Relu"],
        "GRU": ["HardSigmoid", "Softsign"],
        "LSTM": ["HardSigmoid", "Softsign", "Tanh"],
    }[op]
    made = [
        form(),
        form(first=False),
        form(outputs=2),
        form(direction="reverse"),
        form(directions=2, direction="bidirectional", outputs=2),
        form(activations=kinds),
        form(activations=["LeakyRelu", *kinds[1:]], activation_alpha=[0.3] * len(kinds)),
        form(
            activations=["Affine", *kinds[1:]],
            activation_alpha=[0.3] * len(kinds),
            activation_beta=[0.1] * len(kinds),
        ),
        form(clip=0.5),
    ]
    if op == "GRU":
        made.append(form(linear_before_reset=1))
    if op == "LSTM":
        made.append(form(input_forget=1))
    return made + ([form(layout=1, outputs=2)] if v >= 14 else [])


def _branch(name):
    """Reads the model's input z."""
    result = helper.make_tensor_value_info(name, T.FLOAT, [2, 3, 4])
    nodes = [
        helper.make_node("Softmax", ["z"], [f"{name}s"]),
        helper.make_node("Neg" if name == "t" else "Exp", [f"{name}s"], [name]),
    ]
    return helper.make_graph(nodes, name, [], [result])


def _if(v):
    return [Form([X((), "bool")], {"then_branch": _branch("t"), "else_branch": _branch("e")})]


def _scan(v):
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "e"], ["n"]), helper.make_node("Softmax", ["n"], ["o"], axis=0)],
        "body",
        [info("s", T.FLOAT, [3, 4]), info("e", T.FLOAT, [3, 4])],
        [info("n", T.FLOAT, [3, 4]), info("o", T.FLOAT, [3, 4])],
    )
    base = {"body": body, "num_scan_inputs": 1}
    if v < 9:
        with_batch = [None, X((1, 3, 4)), X((1, 5, 3, 4))]
        return [
            Form(with_batch, {**base, **more}, 2, refused="batch axis") for more in ({}, {"directions": [1]})
        ]
    first, plain = lambda: X((3, 4)), lambda: X((5, 3, 4))
    return [
        Form([first(), plain()], base, 2),
        Form([first(), plain()], {**base, "scan_input_directions": [1]}, 2),
        Form([first(), plain()], {**base, "scan_output_directions": [1]}, 2),
        Form([first(), X((3, 5, 4))], {**base, "scan_input_axes": [1]}, 2),
        Form([first(), plain()], {**base, "scan_output_axes": [1]}, 2),
    ]


def _loop(v):
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["c"], ["d"]),
            helper.make_node("Softmax", ["s"], ["n"], axis=0),
            helper.make_node("Neg", ["n"], ["o"]),
        ],
        "body",
        [info("i", T.INT64, []), info("c", T.BOOL, []), info("s", T.FLOAT, [3, 4])],
        [info("d", T.BOOL, []), info("n", T.FLOAT, [3, 4]), info("o", T.FLOAT, [3, 4])],
    )
    return [Form([np.array(3, "int64"), np.array(True), X((3, 4))], {"body": body}, 2, 1)]


def _constant(v):
    made = [Form([], {"value": helper.make_tensor("t", T.FLOAT, [2], [1, 2])})]
    if v >= 12:
        made += [
            Form([], each)
            for each in (
                {"value_float": 1.5},
                {"value_floats": [1.0, 2.0]},
                {"value_int": 3},
                {"value_ints": [1, 2]},
            )
        ]
    return made


def _scatter(op, v):
    data, updates = X((4, 5)), X((2, 5))
    indices = i64(*RNG.permutation(4)[:2].tolist() * 5).reshape(5, 2).T.copy()
    made = [
        Form([data, indices, updates]),
        Form([X((4, 5)), i64(0, 2, 1, 1, 3, 0, 4, 2).reshape(4, 2), X((4, 2))], {"axis": 1}),
    ]
    if v >= 16 and op == "ScatterElements":
        kinds = ["add", "mul", *(("max", "min") if v >= 18 else ())]
        made += [Form([X((4, 5)), indices, X((2, 5))], {"reduction": kind}) for kind in kinds]
    return made


def _scatter_nd(v):
    made = [Form([X((4, 5)), i64(0, 2).reshape(2, 1), X((2, 5))])]
    kinds = [*(("add", "mul") if v >= 16 else ()), *(("max", "min") if v >= 18 else ())]
    return made + [
        Form([X((4, 5)), i64(2, 2).reshape(2, 1), X((2, 5))], {"reduction": kind}) for kind in kinds
    ]


def _roi_align(v):
    rois, batch = np.array([[0, 0, 7, 9], [1, 2, 13, 11]], "float32"), i64(0, 1)
    base = {"output_height": 3, "output_width": 4, "spatial_scale": 0.5, "sampling_ratio": 2}
    changes = [
        {"mode": "max"},
        {"sampling_ratio": 0},
        {"spatial_scale": 1.0},
        {"output_height": 2, "output_width": 2},
    ]
    if v >= 16:
        changes.append({"coordinate_transformation_mode": "output_half_pixel"})
    return with_each(*changes, base=base, inputs=lambda: [X((2, 3, 8, 8)), rois, batch])


def _grid(v):
    modes = ("bilinear", "nearest", "bicubic") if v < 20 else ("linear", "nearest", "cubic")
    grid = RNG.uniform(-1.2, 1.2, (2, 5, 3, 2)).astype("float32")
    changes = [
        *({"mode": m} for m in modes),
        {"padding_mode": "border"},
        {"padding_mode": "reflection"},
        {"align_corners": 1},
    ]
    return with_each(*changes, inputs=lambda: [X(IMAGE), grid])


def _attention(v):

    def heads():
        return [X((2, 3, 4, 8)), X((2, 3, 6, 8)), X((2, 3, 6, 8))]

    changes = [{"scale": 0.2}, {"is_causal": 1}, {"softcap": 2.0}]
    made = with_each(*changes, inputs=heads)
    made.append(Form([X((2, 4, 24)), X((2, 6, 24)), X((2, 6, 24))], {"q_num_heads": 3, "kv_num_heads": 3}))
    made.append(Form([*heads(), f32(4, 6)]))
    made.append(Form([*heads()], {"softmax_precision": T.FLOAT}))
    if v >= 25:
        made += with_each({"left_window_size": 2}, {"right_window_size": 1}, inputs=heads)
    return made


def _loss(op, v):
    scores, labels = (lambda: X((4, 3), before="")), i64(0, 2, 1, 2)
    made = [Form([scores(), labels], {"reduction": r}) for r in ("mean", "sum", "none")]
    return [
        *made,
        Form([scores(), labels], {"ignore_index": 2}),
        Form([scores(), labels, np.array([1, 2, 3], "float32")]),
    ]


SPECIAL = {
    "ArgMax": _arg,
    "ArgMin": _arg,
    "Attention": _attention,
    "AveragePool": lambda v: _pool("AveragePool", v),
    "BatchNormalization": _batch_norm,
    "BitShift": lambda _: [
        Form([X(dtype="uint8"), X(dtype="uint8", before="")], {"direction": d}) for d in ("LEFT", "RIGHT")
    ],
    "Cast": _cast,
    "CastLike": _cast_like,
    "Clip": _clip,
    "Compress": lambda _: [
        Form([X(), np.array([True, False, True])], {"axis": 1}),
        Form([X(), np.array([True, False, True])]),
    ],
    "Concat": lambda v: [Form([X(), X()], {"axis": axis}) for axis in ((0, 2, -1) if v >= 11 else (0, 2))],
    "Constant": _constant,
    "ConstantOfShape": lambda _: [
        Form([i64(2, 3)]),
        Form([i64(2, 3)], {"value": helper.make_tensor("t", T.INT64, [1], [4])}),
    ],
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "CumSum": lambda _: with_each({"exclusive": 1}, {"reverse": 1}, inputs=lambda: [X(), np.int32(2)]),
    "Equal": lambda _: [Form([X(dtype=kind), X((4, 5), kind)]) for kind in ("int32", "bool")],
    "DFT": lambda v: (
        with_each({"axis": 2}, {"inverse": 1}, {"onesided": 1}, inputs=lambda: [X((2, 8, 6, 1))])
        if v < 20
        else with_each({"inverse": 1}, {"onesided": 1}, inputs=lambda: [X((2, 8, 6, 1)), None, np.int64(1)])
    ),
    "DeformConv": lambda _: [
        Form([X((1, 2, 5, 5)), f32(3, 2, 2, 2), X((1, 8, 4, 4))]),
        Form([X((1, 2, 5, 5)), f32(3, 2, 2, 2), X((1, 8, 6, 6)), f32(3)], {"pads": [1, 1, 1, 1]}),
        Form(
            [X((1, 2, 5, 5)), f32(4, 1, 2, 2), X((1, 16, 2, 2))],
            {"group": 2, "offset_group": 2, "strides": [2, 2]},
        ),
        Form(
            [X((1, 2, 5, 5)), f32(3, 2, 2, 2), X((1, 8, 3, 3))], {"dilations": [2, 2], "kernel_shape": [2, 2]}
        ),
    ],
    "DepthToSpace": lambda v: with_each(
        *([{"mode": "CRD"}] if v >= 11 else []), base={"blocksize": 2}, inputs=lambda: [X((1, 8, 3, 4))]
    ),
    "DequantizeLinear": _dequantize,
    "Det": lambda _: [Form([X((2, 3, 3))])],
    "Dropout": _dropout,
    "Einsum": lambda _: [Form([X((2, 3)), X((3, 4))], {"equation": "ij,jk->ki"})],
    "Expand": lambda _: [Form([X((3, 1)), i64(2, 3, 4)])],
    "EyeLike": lambda _: with_each({"dtype": T.INT32}, {"k": 1}, inputs=lambda: [X((3, 4))]),
    "Flatten": lambda v: with_each(
        {"axis": 0}, {"axis": 2}, {"axis": 4}, *([{"axis": -1}] if v >= 11 else [])
    ),
    "GRU": lambda v: _recurrent("GRU", v),
    "Gather": lambda _: with_each({"axis": 2}, {"axis": -1}, inputs=lambda: [X(), i64(1, 0)]),
    "GatherElements": lambda _: with_each(
        {"axis": 1}, inputs=lambda: [X((2, 3)), i64(1, 0, 1, 0, 0, 1).reshape(2, 3)]
    ),
    "GatherND": lambda v: [
        Form([X((2, 3, 4)), i64(1, 2, 0, 1).reshape(2, 2)]),
        *([Form([X((2, 3, 4)), i64(2, 1).reshape(2, 1)], {"batch_dims": 1})] if v >= 12 else []),
    ],
    "Gemm": lambda v: [
        *with_each({"alpha": 0.5}, {"beta": 0.3}, inputs=lambda: [X((3, 4)), f32(4, 5), f32(5)]),
        Form([X((4, 3)), f32(4, 5), f32(3, 1)], {"transA": 1}),
        Form([X((3, 4)), f32(5, 4), f32(3, 5)], {"transB": 1}),
        *([Form([X((3, 4)), f32(4, 5)])] if v >= 11 else []),
    ],
    "GridSample": _grid,
    "GroupNormalization": lambda v: with_each(
        {"epsilon": 0.1},
        *([{"stash_type": 1}] if v >= 21 else []),
        base={"num_groups": 2},
        inputs=lambda: [X(IMAGE), *((f32(2), f32(2)) if v < 21 else (f32(4), f32(4)))],
    ),
    "Hardmax": _norm,
    "If": _if,
    "InstanceNormalization": lambda _: with_each({"epsilon": 0.1}, inputs=lambda: [X(IMAGE), f32(4), f32(4)]),
    "LRN": lambda _: with_each(
        {"alpha": 0.1}, {"beta": 0.5}, {"bias": 2.0}, base={"size": 3}, inputs=lambda: [X(IMAGE)]
    ),
    "LSTM": lambda v: _recurrent("LSTM", v),
    "LogSoftmax": _norm,
    "Loop": _loop,
    "LpPool": lambda v: _pool("LpPool", v),
    "MatMul": lambda _: [Form([X(), f32(5, 6)]), Form([X((2, 3)), X((3, 4))])],
    "MaxPool": lambda v: _pool("MaxPool", v),
    "MaxRoiPool": lambda _: with_each(
        {"spatial_scale": 0.5},
        base={"pooled_shape": [2, 3]},
        inputs=lambda: [X((1, 2, 8, 8)), np.array([[0, 0, 0, 6, 7]], "float32")],
    ),
    "MaxUnpool": lambda _: with_each(
        {"pads": [0, 0, 0, 0]},
        base={"kernel_shape": [2, 2], "strides": [2, 2]},
        inputs=lambda: [X((1, 1, 2, 2)), i64(5, 7, 13, 15).reshape(1, 1, 2, 2)],
    ),
    "MeanVarianceNormalization": lambda _: with_each({"axes": [1, 2]}),
    "Mod": lambda _: [
        Form([X(dtype="int32"), np.array([3, -4, 5, 7, 2], "int32")]),
        Form([X(), f32(4, 1)], {"fmod": 1}),
    ],
    "NegativeLogLikelihoodLoss": lambda v: _loss("NegativeLogLikelihoodLoss", v),
    "OneHot": lambda v: with_each(
        {"axis": 0},
        inputs=lambda: [
            X((2, 3), "int64", before="Sign" if v > 9 else ""),
            np.int64(3),
            np.array([0.5, 2], "float32"),
        ],
    ),
    "Pad": _pad,
    "QLinearMatMul": lambda _: [
        Form([X((3, 4), "uint8"), *q, RNG.integers(0, 255, (4, 5), "uint8"), *q, np.float32(2), np.uint8(9)])
        for q in [(np.float32(0.1), np.uint8(7))]
    ],
    "QuantizeLinear": _quantize,
    "RNN": lambda v: _recurrent("RNN", v),
    "Range": lambda v: with_each(
        *([{"stash_type": 1}] if v >= 27 else []),
        inputs=lambda: [np.float32(1), np.float32(6), np.float32(1.5)],
    ),
    "Reshape": lambda v: [
        Form([X(), i64(0, -1)]),
        Form([X(), i64(6, 20)]),
        *([Form([X(), i64(2, -1, 5)], {"allowzero": 1})] if v >= 14 else []),
    ],
    "Resize": _resize,
    "ReverseSequence": lambda _: [
        Form([X((4, 3, 5)), i64(1, 4, 2)], {}),
        Form([X((3, 4, 5)), i64(1, 4, 2)], {"batch_axis": 0, "time_axis": 1}),
    ],
    "RoiAlign": _roi_align,
    "Scan": _scan,
    "Scatter": lambda v: _scatter("Scatter", v),
    "ScatterElements": lambda v: _scatter("ScatterElements", v),
    "ScatterND": _scatter_nd,
    "Slice": _slice,
    "Softmax": _norm,
    "SoftmaxCrossEntropyLoss": lambda v: _loss("SoftmaxCrossEntropyLoss", v),
    "SpaceToDepth": lambda v: with_each(
        *([{"mode": "CRD"}] if v >= 28 else []), base={"blocksize": 2}, inputs=lambda: [X((1, 3, 4, 6))]
    ),
    "Split": _split,
    "Squeeze": lambda v: [Form([X((1, 3, 1, 5))]), *_axes(v, (1, 3, 1, 5), [[0], [0, 2], [-2]])],
    "Tile": lambda _: [Form([X((2, 3)), i64(2, 3)])],
    "TopK": _top_k,
    "Unsqueeze": lambda v: _axes(v, (3, 5), [[0], [1, 3], [-1]]),
    "Upsample": _upsample,
    "Where": lambda _: [Form([X((4, 5), "bool"), X(), X((4, 1))])],
}
LEFT_OUT = {
    "Bernoulli": "random",
    "Multinomial": "random",
    "RandomNormal": "random",
    "RandomNormalLike": "random",
    "RandomUniform": "random",
    "RandomUniformLike": "random",
    "NonMaxSuppression": "the shape of its output depends on the data",
    "NonZero": "the shape of its output depends on the data",
    "Unique": "the shape of its output depends on the data",
    "Optional": "no tensor",
    "OptionalGetElement": "no tensor",
    "OptionalHasElement": "no tensor",
    "SplitToSequence": "no tensor",
}


def changed() -> dict[str, list[int]]:
    """Operators with several versions from the oldest opset on, with these versions."""
    versions: dict[str, list[int]] = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "":
            versions.setdefault(schema.name, []).append(schema.since_version)
    found = {}
    for name, each in versions.items():
        later = [version for version in sorted(each) if version > OLDEST]
        earlier = [version for version in each if version <= OLDEST]
        if len(later) + bool(earlier) > 1:
            found[name] = [*([max(earlier)] if earlier else []), *later]
    return found


def opsets(op: str) -> Iterator[tuple[int, int]]:
    """The versions of an operator, each with the first opset that has it and is supported."""
    for version in changed()[op]:
        if not defs.get_schema(op, max(version, OLDEST)).deprecated:
            yield version, max(version, OLDEST)


def model_of(op, opset, form):
    """A model of one node, with an input even if the node has none."""
    nodes, inputs, constants, names = [], [], [], []
    for i, x in enumerate(form.inputs):
        name = "" if x is None else f"x{i}"
        if isinstance(x, X):
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(x.dtype))
            inputs.append(helper.make_tensor_value_info(name, kind, x.shape))
            if x.before:
                nodes.append(helper.make_node(x.before, [name], [f"{name}b"]))
                name = f"{name}b"
        elif x is not None:
            constants.append(numpy_helper.from_array(np.asarray(x), name))
        names.append(name)
    made_of_it = [f"y{i}" for i in range(form.outputs)]
    outputs = made_of_it[: form.returned or form.outputs]
    if op == "If" or not inputs:
        inputs.append(helper.make_tensor_value_info("z", T.FLOAT, [2, 3, 4]))
        nodes.append(helper.make_node("Neg", ["z"], ["w"]))
        outputs.append("w")
    nodes.append(helper.make_node(op, names, made_of_it, "tested", **form.attributes))
    graph = helper.make_graph(
        nodes, "g", inputs, [helper.make_empty_tensor_value_info(o) for o in outputs], constants
    )
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10 if opset > 8 else 4
    )
    return onnx.shape_inference.infer_shapes(made)


def written(model, path):
    """Write a model; outputs whose type cannot be inferred get that which onnxruntime gives them."""
    path.write_bytes(model.SerializeToString())
    unknown = [o for o in model.graph.output if not o.type.tensor_type.HasField("shape")]
    if unknown:
        session = open_session(path)
        feed = {
            i.name: np.ones(i.shape, {"tensor(float)": "float32", "tensor(bool)": "bool"}[i.type])
            for i in session.get_inputs()
        }
        values = dict(
            zip([o.name for o in model.graph.output], run_session(session, feed, path), strict=True)
        )
        for output in unknown:
            value = values[output.name]
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            output.CopyFrom(helper.make_tensor_value_info(output.name, kind, value.shape))
        path.write_bytes(model.SerializeToString())
    return path
