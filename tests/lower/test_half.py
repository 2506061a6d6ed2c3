"""float16 models sum in float32: on a GPU by the kernels' TIR, on this CPU by their values."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgepack.config.target import load_target
from edgepack.lower import build, compile_model, phases

RANDOM = np.random.default_rng(0)


def half(*shape):
    """Positive values, so that a sum grows far beyond its terms."""
    return RANDOM.uniform(0.25, 0.75, shape).astype("float16")


# Operator, shape of x, constants, attributes.
CASES = {
    "MatMul": ("MatMul", (3, 3000), {"w": half(3000, 8)}, {}),
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
    "Softmax": ("Softmax", (2, 5000), {}, {"axis": -1}),
    "LogSoftmax": ("LogSoftmax", (2, 5000), {}, {"axis": -1}),
    "ReduceMean": ("ReduceMean", (2, 5000), {"axes": np.array([1])}, {}),
    "ReduceSum": ("ReduceSum", (2, 5000), {"axes": np.array([1])}, {"keepdims": 0}),
    "ReduceProd": ("ReduceProd", (2, 12), {"axes": np.array([1])}, {}),
    "ReduceL2": ("ReduceL2", (2, 5000), {"axes": np.array([1])}, {}),
    "GlobalAveragePool": ("GlobalAveragePool", (1, 2, 60, 60), {}, {}),
    "AveragePool": ("AveragePool", (1, 2, 61, 61), {}, {"kernel_shape": [60, 60]}),
    "LayerNormalization": ("LayerNormalization", (2, 5000), {"s": half(5000), "b": half(5000)}, {}),
    "InstanceNormalization": ("InstanceNormalization", (1, 2, 60, 60), {"s": half(2), "b": half(2)}, {}),
}


@pytest.fixture(params=CASES)
def case(request, tmp_path):
    """A model of one node, and an input."""
    operator, shape, constants, attributes = CASES[request.param]
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", *constants], ["y"], name="the_node", **attributes)],
        "one",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT16, shape)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.output[:]
    [known] = onnx.shape_inference.infer_shapes(bare, strict_mode=True).graph.value_info
    model.graph.output[0].CopyFrom(known)
    onnx.save(model, tmp_path / "half.onnx")
    return tmp_path / "half.onnx", half(*shape)


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


def test_every_kernel_of_a_gpu_sums_in_float32(case):
    target = load_target("jetson-orin")
    lowering = build._lowering(case[0], target, None)
    assert accumulators(phases.run(phases.phases_for(target), lowering, until=phases.KERNELS)) == {"float32"}


def test_values_are_exact_up_to_the_last_rounding(case, tmp_path):
    import tvm
    from onnx.reference import ReferenceEvaluator
    from tvm import relax

    path, x = case
    library = compile_model(path, load_target("x86-64-v3"), tmp_path / "m.so").path
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())
    y = machine["main"](tvm.runtime.tensor(x)).numpy()
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT16:
            tensor.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float32"), tensor.name)
            )
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    [exact] = ReferenceEvaluator(model).run(None, {"x": x.astype("float32")})
    assert y.dtype == "float16"
    # Normalizations also round in between, values of about 1.
    atol = 2**-9 if "Normalization" in model.graph.node[0].op_type else 2**-24
    np.testing.assert_allclose(y.astype("float64"), exact, rtol=2**-10, atol=atol)
