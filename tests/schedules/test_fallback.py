"""Scheduled kernels give the same results as unscheduled ones, for regular and odd shapes."""

import numpy as np
import pytest

from edgepack.schedules.fallback import schedule_function
from edgepack.schedules.kernel import is_plain
from edgepack.schedules.tiles import Machine

MACHINES = {
    "avx512": Machine(vector_bytes=64, registers=32, cores=2),
    "avx2": Machine(vector_bytes=32, registers=16, cores=4),
    "sse": Machine(vector_bytes=16, registers=16, cores=2, multiply_add=3, broadcast=2),
    "neon": Machine(vector_bytes=16, registers=32, cores=4),
}


def conv2d(data, kernel, *, stride=1, pad=0, dilation=1, groups=1, dtype="float32", residual=False):
    from tvm import te, topi

    x = te.placeholder(data, dtype, "x")
    w = te.placeholder(kernel, dtype, "w")
    b = te.placeholder((1, kernel[0], 1, 1), dtype, "b")
    y = topi.nn.conv(x, w, stride, pad, dilation, groups, "NCHW", "OIHW", dtype)
    y = topi.nn.relu(topi.add(y, b))
    args = [x, w, b]
    if residual:
        r = te.placeholder([int(n) for n in y.shape], dtype, "r")
        y = topi.add(y, r)
        args.append(r)
    return te.create_prim_func([*args, y]).with_attr("layout_free_buffers", [1, 2])


def conv1d(data, kernel, stride=1):
    from tvm import te, topi

    x, w = te.placeholder(data, name="x"), te.placeholder(kernel, name="w")
    return te.create_prim_func([x, w, topi.nn.conv1d(x, w, strides=stride)]).with_attr(
        "layout_free_buffers", [1]
    )


def matmul(m, k, n, *, dtype="float32", constant=True, transposed=False):
    from tvm import te, topi

    a, b = te.placeholder((m, k), dtype, "a"), te.placeholder((n, k) if transposed else (k, n), dtype, "b")
    bias = te.placeholder((n,), dtype, "bias")
    y = topi.add(topi.matmul(a, b, transp_b=transposed), bias)
    return te.create_prim_func([a, b, bias, y]).with_attr("layout_free_buffers", [1, 2] if constant else [])


def batch_matmul(batch, m, k, n):
    from tvm import te, topi

    a, b = te.placeholder((batch, m, k), name="a"), te.placeholder((batch, n, k), name="b")
    return te.create_prim_func([a, b, topi.nn.batch_matmul(a, b)])


def int8_matmul(m, k, n):
    from tvm import te

    a, b = te.placeholder((m, k), "uint8", "a"), te.placeholder((k, n), "int8", "b")
    r = te.reduce_axis((0, k), "r")
    y = te.compute((m, n), lambda i, j: te.sum(a[i, r].astype("int32") * b[r, j].astype("int32"), axis=r))
    return te.create_prim_func([a, b, y]).with_attr("layout_free_buffers", [1])


def pool(data, kernel, stride, pad, kind):
    from tvm import te, topi

    x = te.placeholder(data, name="x")
    y = topi.nn.pool2d(x, [kernel] * 2, [stride] * 2, [1, 1], [pad] * 4, kind, count_include_pad=False)
    return te.create_prim_func([x, y])


def unary(shape, function):
    from tvm import te

    x = te.placeholder(shape, name="x")
    return te.create_prim_func([x, function(x)])


def topi_unary(name, *args, **options):
    def call(x):
        from tvm import topi

        return getattr(topi, name)(x, *args, **options)

    return call


def mean(x):
    from tvm import topi

    return topi.divide(topi.sum(x, axis=[2, 3], keepdims=True), 49.0)


def softmax(x):
    from tvm import topi

    return topi.nn.softmax(x, -1)


def layer_norm(shape):
    from tvm import te, topi

    x, g, b = (
        te.placeholder(shape, name="x"),
        te.placeholder(shape[-1:], name="g"),
        te.placeholder(shape[-1:], name="b"),
    )
    return te.create_prim_func([x, g, b, topi.nn.layer_norm(x, g, b, [len(shape) - 1])])


def self_product(n):
    from tvm import te, topi

    x = te.placeholder((n, n), name="x")
    return te.create_prim_func([x, topi.matmul(x, x)])


CASES = {
    "conv 3x3 first layer": lambda: conv2d((1, 3, 32, 32), (32, 3, 3, 3), stride=2, pad=1),
    "conv 1x1": lambda: conv2d((1, 24, 14, 14), (144, 24, 1, 1)),
    "conv 1x1 long reduction": lambda: conv2d((1, 192, 7, 7), (32, 192, 1, 1), residual=True),
    "conv 1x1 28 wide": lambda: conv2d((1, 40, 28, 28), (24, 40, 1, 1)),
    "conv 17 channels 13x13": lambda: conv2d((1, 17, 13, 13), (17, 17, 3, 3), pad=1),
    "conv one channel in and out": lambda: conv2d((1, 1, 13, 7), (1, 1, 3, 3), pad=1),
    "conv dilated": lambda: conv2d((1, 8, 15, 15), (16, 8, 3, 3), pad=2, dilation=2),
    "conv 5x5 stride 2": lambda: conv2d((1, 5, 13, 13), (10, 5, 5, 5), stride=2, pad=2),
    "conv grouped": lambda: conv2d((1, 16, 7, 7), (32, 4, 3, 3), pad=1, groups=4),
    "conv batch 2": lambda: conv2d((2, 8, 9, 9), (16, 8, 3, 3), pad=1),
    "conv whole image": lambda: conv2d((1, 16, 7, 7), (24, 16, 7, 7)),
    "depthwise": lambda: conv2d((1, 32, 14, 14), (32, 1, 3, 3), pad=1, groups=32),
    "depthwise 7x7 image": lambda: conv2d((1, 17, 7, 7), (17, 1, 3, 3), pad=1, groups=17),
    "depthwise stride 2": lambda: conv2d((1, 24, 28, 28), (24, 1, 3, 3), pad=1, stride=2, groups=24),
    "depthwise 5x5 stride 2 odd": lambda: conv2d((1, 5, 13, 13), (5, 1, 5, 5), pad=2, stride=2, groups=5),
    "depthwise multiplier 2": lambda: conv2d((1, 8, 9, 9), (16, 1, 3, 3), pad=1, groups=8),
    "depthwise unpadded": lambda: conv2d((1, 8, 9, 9), (8, 1, 3, 3), groups=8),
    "conv1d": lambda: conv1d((1, 6, 50), (12, 6, 5), stride=2),
    "matmul one row": lambda: matmul(1, 96, 1000),
    "matmul": lambda: matmul(64, 48, 80),
    "matmul primes": lambda: matmul(13, 17, 19),
    "matmul activations": lambda: matmul(12, 32, 20, constant=False),
    "matmul transposed": lambda: matmul(10, 33, 24, transposed=True),
    "matmul one column": lambda: matmul(31, 65, 1),
    "matmul of one buffer": lambda: self_product(12),
    "matmul int8": lambda: int8_matmul(9, 40, 48),
    "batch matmul": lambda: batch_matmul(4, 10, 16, 12),
    "max pool": lambda: pool((1, 17, 13, 13), 3, 2, 1, "max"),
    "average pool": lambda: pool((1, 8, 14, 14), 2, 2, 0, "avg"),
    "average pool padded": lambda: pool((1, 8, 14, 14), 3, 2, 1, "avg"),
    "global mean": lambda: unary((1, 33, 7, 7), mean),
    "sum of everything": lambda: unary((5, 7), topi_unary("sum")),
    "argmax": lambda: unary((4, 17), topi_unary("argmax", axis=1)),
    "softmax": lambda: unary((3, 4, 50), softmax),
    "softmax long": lambda: unary((40, 512), softmax),
    "layer norm": lambda: layer_norm((3, 10, 64)),
    "tanh": lambda: unary((1, 17, 13, 13), topi_unary("tanh")),
    "scalar": lambda: unary((), topi_unary("exp")),
    "one element": lambda: unary((1, 1), topi_unary("exp")),
    "large elementwise": lambda: unary((1, 64, 56, 56), topi_unary("sqrt")),
    "transpose": lambda: unary((3, 17, 20), topi_unary("transpose", [2, 0, 1])),
    "reshape": lambda: unary((4, 6, 5), topi_unary("reshape", (8, 15))),
    "flip": lambda: unary((7, 113), topi_unary("flip", 1)),
    "strided slice": lambda: unary((9, 20), topi_unary("strided_slice", [1, 2], [8, 19], [2, 3])),
}


def arguments(function):
    random = np.random.default_rng(0)
    found = []
    for buffer in function.params:
        shape, dtype = [int(n) for n in buffer.shape], str(buffer.dtype)
        if dtype.startswith("float"):
            value = np.asarray(random.uniform(0.1, 1.0, shape), dtype)
        else:
            info = np.iinfo(dtype)
            value = np.asarray(
                random.integers(max(info.min, -128), min(info.max, 255), shape, endpoint=True), dtype
            )
        found.append(value)
    return found


def run(function, values):
    import tvm

    library = tvm.compile(tvm.IRModule({"main": function.with_attr("global_symbol", "main")}), target="llvm")
    tensors = [tvm.runtime.tensor(value) for value in values]
    library["main"](*tensors)
    return tensors[-1].numpy()


@pytest.mark.parametrize("case", CASES)
def test_schedules_keep_the_result(case):
    function = CASES[case]()
    values = arguments(function)
    expected = run(function, values)
    for name, machine in MACHINES.items():
        got = run(schedule_function(function, machine), values)
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-6, err_msg=f"{case} on {name}")


def other_form(operator):
    """Kernels that TVM does not make of blocks for each stage, and those with the fewest of these."""
    from tvm import te, topi

    if operator == "scalar":
        x = te.placeholder((), name="x")
        return te.create_prim_func([x, topi.add(x, topi.exp(x))])
    if operator == "constant":
        return te.create_prim_func([topi.full((2, 3), "float32", 0.5)])
    if operator == "scatter":
        x, at, new = te.placeholder((5, 3)), te.placeholder((2, 1), "int32"), te.placeholder((2, 3))
        indices = te.compute((1, 2), lambda axis, i: te.max(te.min(at[i, axis], 4), 0))
        return te.create_prim_func([x, at, new, topi.scatter_nd(x, indices, new, "update")])
    x = te.placeholder((2, 7), name="x")
    return te.create_prim_func([x, getattr(topi, operator)(x, axis=1)])


@pytest.mark.parametrize("operator", ["cumsum", "cumprod", "sort", "scalar", "constant", "scatter"])
def test_kernels_in_other_forms_compile_without_a_warning(operator, caplog):
    function = other_form(operator)
    values = arguments(function)
    machine = MACHINES["avx2"]
    scheduled = schedule_function(function, machine)
    assert not caplog.records
    assert bool((scheduled.attrs or {}).get("tirx.is_scheduled")) == is_plain(function)
    assert is_plain(function) == (operator in {"scalar", "constant", "scatter"})
    np.testing.assert_allclose(run(scheduled, values), run(function, values), rtol=1e-6)
