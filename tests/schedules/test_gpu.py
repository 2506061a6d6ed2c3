"""Kernels of GPU targets: which rule takes them, by the threads that they are launched with."""

import math
from functools import partial

import pytest

from edgepack.config.target import load_target
from edgepack.schedules import tvm_target
from edgepack.schedules.families import FAMILIES
from edgepack.schedules.kernel import find

CHANNELS, SIZE = 8, 12


def _depthwise(after):
    """A depthwise convolution, and functions applied to its result, each in a block of its own."""
    from tvm import te, topi

    x = te.placeholder((1, CHANNELS, SIZE + 2, SIZE + 2), "float32", name="x")
    w = te.placeholder((CHANNELS, 1, 3, 3), "float32", name="w")
    y = topi.nn.depthwise_conv2d_nchw(x, w, 1, 0, 1, "float32")
    for function in after:
        y = te.compute(y.shape, partial(_applied, function, y), name="after")
    return te.create_prim_func([x, w, y])


def _applied(function, x, *at):
    return function(x(*at))


def _threads(function):
    """Threads of the kernel, in all blocks, after the family's fallback schedule."""
    import tvm
    from tvm import tirx

    target = load_target("host-gpu")
    with tvm_target(target):
        mod = FAMILIES[target.family].fallback(target)(tvm.IRModule({"main": function}))
    loops = find(mod["main"].body, tirx.For)
    return math.prod(int(loop.extent) for loop in loops if loop.thread_binding is not None)


def _quantized():
    from tvm import tirx

    return (
        lambda x: tirx.max(tirx.min(tirx.round(x / 0.05), 255.0), 0.0).astype("uint8"),
        lambda x: x.astype("int32").astype("float32") * tirx.const(0.05, "float32"),
    )


def _sigmoid():
    from tvm import tirx

    return (tirx.sigmoid, lambda x: x + tirx.const(1, "float32"))


def _hard_swish():
    from tvm import tirx

    return (lambda x: x + 0.5, lambda x: x * tirx.max(tirx.min(x + 3.0, 6.0), 0.0) / 6.0)


def _quantized_hard_swish():
    return (*_quantized(), *_hard_swish())


@pytest.mark.parametrize("after", [tuple, _quantized, _sigmoid, _hard_swish, _quantized_hard_swish])
def test_a_depthwise_convolution_has_one_thread_per_output_whatever_follows(after):
    assert _threads(_depthwise(after())) == CHANNELS * SIZE * SIZE
