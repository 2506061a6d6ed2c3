"""Models of half precision sum in float32 and round once: on a GPU by the kernels' TIR, on this CPU by their values."""

import numpy as np
import onnx
import pytest
import values
from onnx import TensorProto, helper, numpy_helper

from edgepack.config.target import load_target
from edgepack.lower import build, phases

RANDOM = np.random.default_rng(0)
HALVES = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
LAST = {"axes": np.array([1])}


def half(*shape):
    """Positive values, so that a sum grows far beyond its terms; exact in both types."""
    return np.round(RANDOM.uniform(64, 192, shape)).astype("float32") / 256


# Operator, shape of x, constants, attributes. Integers, and float32, are inputs of their own type.
CASES = {
    "MatMul": ("MatMul", (3, 4096), {"w": half(4096, 8)}, {}),
    "MatMul of vectors": ("MatMul", (3000,), {"w": half(3000)}, {}),
    "Gemm": ("Gemm", (2, 3000), {"w": half(8, 3000), "b": half(8)}, {"transB": 1}),
    "Conv 1d": ("Conv", (1, 600, 9), {"w": half(4, 600, 3)}, {}),
    "Conv 2d": ("Conv", (1, 300, 6, 6), {"w": half(4, 300, 3, 3)}, {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "Conv 3d": ("Conv", (1, 120, 3, 4, 4), {"w": half(2, 120, 3, 3, 3)}, {}),
    "Conv, dilated, in groups": (
        "Conv",
        (1, 600, 7, 7),
        {"w": half(4, 300, 3, 3)},
        {"group": 2, "dilations": [2, 2]},
    ),
    "ConvTranspose 1d": ("ConvTranspose", (1, 2000, 4), {"w": half(2000, 2, 3)}, {}),
    "ConvTranspose 2d": (
        "ConvTranspose",
        (1, 2000, 3, 3),
        {"w": half(2000, 2, 3, 3)},
        {"strides": [2, 2], "output_padding": [1, 1]},
    ),
    "Einsum": ("Einsum", (3, 3000), {"w": half(3000, 4)}, {"equation": "ij,jk->ik"}),
    "Einsum of one": ("Einsum", (3, 3000), {}, {"equation": "ij->i"}),
    "CumSum": ("CumSum", (2, 3000), {"axis": np.array(1)}, {}),
    "Softmax": ("Softmax", (2, 2048), {}, {"axis": -1}),
    "LogSoftmax": ("LogSoftmax", (2, 2048), {}, {"axis": -1}),
    "ReduceMean": ("ReduceMean", (2, 5000), LAST, {}),
    "ReduceSum": ("ReduceSum", (2, 5000), LAST, {"keepdims": 0}),
    "ReduceProd": ("ReduceProd", (2, 12), LAST, {}),
    "ReduceL1": ("ReduceL1", (2, 5000), LAST, {}),
    "ReduceL2": ("ReduceL2", (2, 5000), LAST, {}),
    "ReduceSumSquare": ("ReduceSumSquare", (2, 5000), LAST, {}),
    "ReduceLogSum": ("ReduceLogSum", (2, 5000), LAST, {}),
    "ReduceLogSumExp": ("ReduceLogSumExp", (2, 5000), LAST, {"keepdims": 0}),
    "LpNormalization": ("LpNormalization", (2, 5000), {}, {"axis": 1}),
    "Mean": ("Mean", (2, 50), {"b": half(2, 50), "c": half(2, 50), "d": half(2, 50)}, {}),
    "GlobalAveragePool": ("GlobalAveragePool", (1, 2, 112, 112), {}, {}),
    "AveragePool": ("AveragePool", (1, 2, 61, 61), {}, {"kernel_shape": [60, 60]}),
    "LpPool": ("LpPool", (1, 2, 61, 61), {}, {"kernel_shape": [60, 60]}),
    "GlobalLpPool": ("GlobalLpPool", (1, 2, 61, 61), {}, {}),
    "LayerNormalization": ("LayerNormalization", (2, 5000), {"s": half(5000), "b": half(5000)}, {}),
    "InstanceNormalization": ("InstanceNormalization", (1, 2, 60, 60), {"s": half(2), "b": half(2)}, {}),
    "GroupNormalization": (
        "GroupNormalization",
        (1, 4, 60, 60),
        {"s": half(4), "b": half(4)},
        {"num_groups": 2},
    ),
    "BatchNormalization": (
        "BatchNormalization",
        (1, 3, 8, 8),
        {"s": half(3), "b": half(3), "m": half(3), "v": half(3)},
        {},
    ),
    "LRN": ("LRN", (1, 64, 3, 3), {}, {"size": 41, "alpha": 1.0}),
    "Resize": ("Resize", (1, 1, 8, 8), {"": None, "f": np.array([1, 1, 2, 2], "float32")}, {"mode": "cubic"}),
}


def model(case, kind, widest):
    """One node in half precision, or in float32 with the same numbers; x and y are float32 for bfloat16 models."""
    operator, shape, constants, attributes = CASES[case]
    given = [
        numpy_helper.from_array(value, name)
        if value.dtype.kind == "i" or name == "f" or widest
        else helper.make_tensor(name, HALVES[kind], value.shape, value.ravel())
        for name, value in constants.items()
        if name
    ]
    through = kind == "bfloat16" and not widest
    nodes = [helper.make_node(operator, ["x", *constants], ["y"], name="the_node", **attributes)]
    if through:
        nodes[0].input[0], nodes[0].output[0] = "half x", "half y"
        nodes = [
            helper.make_node("Cast", ["x"], ["half x"], to=HALVES[kind]),
            *nodes,
            helper.make_node("Cast", ["half y"], ["y"], to=TensorProto.FLOAT),
        ]
    outside = TensorProto.FLOAT if widest or through else HALVES[kind]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", outside, shape)],
        [onnx.ValueInfoProto(name="y")],
        given,
    )
    # onnxruntime's newest kernels are of opset 21, convolutions of bfloat16 are from 22 on.
    opset = 22 if through else 21
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    bare = onnx.ModelProto()
    bare.CopyFrom(made)
    del bare.graph.output[:]
    known = {value.name: value for value in onnx.shape_inference.infer_shapes(bare).graph.value_info}
    made.graph.output[0].CopyFrom(known.get("y") or helper.make_tensor_value_info("y", outside, shape))
    return made


def accumulators(mod):
    """Return the types in which the kernels of a module sum."""
    from tvm import s_tir, tirx

    types = set()
    for function in mod.functions.values():
        if isinstance(function, tirx.PrimFunc):
            schedule = s_tir.Schedule(function)
            blocks = [schedule.get(b) for b in schedule.get_child_blocks(schedule.get_sblock("root"))]
            types |= {
                str(written.source.dtype)
                for block in blocks
                if block.init is not None
                for written in block.writes
            }
    return types


FLOAT16 = [case for case in CASES if case not in {"CumSum", "Resize", "Mean", "BatchNormalization", "LRN"}]
# ONNX has no bfloat16 for these.
BFLOAT16 = [case for case in CASES if not case.startswith(("Einsum", "GroupNorm"))]


@pytest.mark.parametrize("case", FLOAT16)
def test_every_kernel_of_a_gpu_sums_in_float32(case, tmp_path):
    onnx.save(model(case, "float16", widest=False), tmp_path / "m.onnx")
    target = load_target("jetson-orin")
    lowering = build._lowering(tmp_path / "m.onnx", target, None)
    found = accumulators(phases.run(phases.phases_for(target), lowering, until=phases.KERNELS))
    assert found == {"float32"}


@pytest.mark.parametrize(
    ("kind", "cases"), [("float16", list(CASES)), ("bfloat16", BFLOAT16)], ids=["float16", "bfloat16"]
)
def test_values_are_exact_up_to_the_last_rounding(kind, cases, tmp_path):
    """All cases are one model: most of the time, TVM and the linker are started."""
    inputs = {case: half(*CASES[case][1]) for case in cases}
    models = [(model(case, kind, widest=False), model(case, kind, widest=True)) for case in cases]
    path = merged(models, cases, tmp_path / "half.onnx", of=0)
    dtype = "float16" if kind == "float16" else "float32"
    got = values.on_cpu(path, {case: x.astype(dtype) for case, x in inputs.items()})
    exact = values.reference(merged(models, cases, tmp_path / "exact.onnx", of=1), inputs)
    digits = 2**-10 if kind == "float16" else 2**-7
    off = {}
    for case, y, expected in zip(cases, got, exact, strict=True):
        assert y.dtype == dtype
        # A rounding is half a digit; some values are computed from a rounded one.
        error = np.abs(y.astype(float) - expected).max() / np.abs(expected).max() / digits
        if not error <= 0.75:
            off[case] = error
    assert not off


def merged(models, cases, path, of):
    """Save one model of all: inputs are named by their case."""
    graph = onnx.GraphProto(name="all")
    for case, pair in zip(cases, models, strict=True):
        part = pair[of].graph
        part = onnx.compose.add_prefix_graph(part, f"{case}/")
        part.input[0].name, old = case, part.input[0].name
        for node in part.node:
            node.input[:] = [case if name == old else name for name in node.input]
        for field in ("node", "input", "output", "initializer"):
            getattr(graph, field).extend(getattr(part, field))
    first = models[0][of]
    onnx.save(helper.make_model(graph, opset_imports=first.opset_import, ir_version=10), path)
    return path
