"""Shared by the tests of the runtime: a small model, and programs in C that are linked with it."""

import math
import subprocess
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from programs import need

from edgepack.executor.build import HEADERS, SOURCES
from edgepack.weightfile.loader import READER

HERE = Path(__file__).parent
SHAPE = (1, 8, 14, 14)
INCLUDES = tuple(f"-I{folder}" for folder in (HERE, HEADERS, SOURCES, READER[0].parent))
WARNINGS = ("-Wall", "-Wextra", "-Werror")
RUNTIME = (*sorted(SOURCES.glob("*.c")), *READER)
SANITIZERS = {
    "plain": (),
    "address": ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
    "thread": ("-fsanitize=thread",),
}


def network():
    """Two convolutions, whose kernels have arrays of their own, with int8 weights; a mean, linear layers, Softmax.

    The weights of two linear layers are large: fp32, which are used where the weights file is mapped, and int8, which are
    decoded when the model is loaded.
    """
    random = np.random.default_rng(0)
    constants, nodes = {}, []

    def convolution(x, name, channels_in):
        constants[f"{name}_q"] = random.integers(-127, 128, (16, channels_in, 3, 3)).astype("int8")
        constants[f"{name}_s"] = random.uniform(0.001, 0.002, 16).astype("float32")
        constants[f"{name}_b"] = random.normal(size=16).astype("float32")
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s"], [f"{name}_w"], axis=0))
        nodes.append(
            helper.make_node("Conv", [x, f"{name}_w", f"{name}_b"], [f"{name}_c"], pads=[1, 1, 1, 1])
        )
        nodes.append(helper.make_node("Relu", [f"{name}_c"], [name]))
        return name

    features = convolution(convolution("x", "first", 8), "second", 16)
    constants |= {name: random.normal(size=SHAPE).astype("float32") for name in ("factors", "others")}
    constants["linear"] = random.normal(size=(16, 10)).astype("float32")
    constants["wide"] = random.normal(size=(math.prod(SHAPE), 10)).astype("float32") / 100
    constants["narrow_q"] = random.integers(-127, 128, (math.prod(SHAPE), 50)).astype("int8")
    constants["narrow_s"] = np.float32(1e-4)
    constants["narrower"] = random.normal(size=(50, 10)).astype("float32")
    nodes += [
        helper.make_node("GlobalAveragePool", [features], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "linear"], ["of_features"]),
        helper.make_node("Flatten", ["x"], ["all"]),
        helper.make_node("MatMul", ["all", "wide"], ["of_all"]),
        helper.make_node("DequantizeLinear", ["narrow_q", "narrow_s"], ["narrow"]),
        helper.make_node("MatMul", ["all", "narrow"], ["fifty"]),
        helper.make_node("MatMul", ["fifty", "narrower"], ["of_fifty"]),
        helper.make_node("Sum", ["of_features", "of_all", "of_fifty"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["y"]),
        # Elements whose products may be added in one instruction or another, in numbers that do not divide evenly.
        helper.make_node("Mul", ["x", "factors"], ["product"]),
        helper.make_node("Sigmoid", ["x"], ["gate"]),
        helper.make_node("Mul", ["gate", "others"], ["other"]),
        helper.make_node("Add", ["product", "other"], ["mixed"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10]),
            helper.make_tensor_value_info(features, TensorProto.FLOAT, [1, 16, 14, 14]),
            helper.make_tensor_value_info("mixed", TensorProto.FLOAT, SHAPE),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def compile_with_clang(out, sources, kind, *flags):
    """Build a program from C sources and object files with a kind of sanitizer; the kernels run without."""
    clang = need("clang", "clang libclang-rt-14-dev")
    argv = (
        clang,
        "-std=c11",
        "-D_GNU_SOURCE",
        "-O1",
        "-g",
        *WARNINGS,
        *SANITIZERS[kind],
        *INCLUDES,
        *flags,
        *map(str, sources),
        "-lm",
        "-ldl",
        "-lpthread",
        "-o",
        str(out),
    )
    subprocess.run(argv, check=True)
    return out


def run(program, *words, **options):
    """What a program writes; it has to end well."""
    done = subprocess.run(
        [program, *words], capture_output=True, text=True, check=False, timeout=120, **options
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Sanitizer" not in done.stderr
    return done.stdout
