"""Schedules bound the straight-line code of a kernel, of whatever shape: LLVM's time grows faster than the code."""

import itertools
import math

import pytest
from test_fallback import MACHINES, conv2d, softmax, topi_unary, unary

from edgepack.schedules.fallback import schedule_function
from edgepack.schedules.kernel import coefficient, find

GATHERED = 640  # elements gathered in straight-line code by one statement
EXTENTS = (13, 19, 49, 152, 256)  # windows of attention, primes, channels, powers of two


def resized(channels):
    """Tokens from a bilinear resize, joined to others: many gathers for each element."""
    from tvm import te, topi

    x, y = te.placeholder((1, channels, 7, 7), name="x"), te.placeholder((1, 5, channels), name="y")
    large = topi.image.resize2d(x, [0.0] * 4, [14, 14], "NCHW", "linear")
    tokens = topi.transpose(topi.reshape(large, (1, channels, 196)), [0, 2, 1])
    return te.create_prim_func([x, y, topi.concatenate([y, tokens], axis=1)])


def split_heads(extent):
    from tvm import te, topi

    x = te.placeholder((1, 50, 2 * extent), name="x")
    heads = topi.transpose(topi.reshape(x, (1, 50, 2, extent)), [0, 2, 1, 3])
    return te.create_prim_func([x, topi.multiply(heads, 0.125)])


KINDS = {
    "softmax": lambda n: unary((4, 3, n, n), softmax),
    "maximum": lambda n: unary((64, n), topi_unary("max", axis=0)),
    "transpose": lambda n: unary((3, 20, n), topi_unary("transpose", [2, 0, 1])),
    "transpose of rows": lambda n: unary((3, n, 20), topi_unary("transpose", [0, 2, 1])),
    "strided": lambda n: unary((9, 3 * n), topi_unary("strided_slice", [1, 2], [8, 3 * n], [2, 3])),
    "depthwise stride 2": lambda n: conv2d((1, 4, 2 * n, 2 * n), (4, 1, 5, 5), pad=2, stride=2, groups=4),
    "resized": resized,
    "heads": split_heads,
}


def stores(statement, loops, block):
    """Yield every store with its loops and its block."""
    from tvm import s_tir, tirx

    if isinstance(statement, tirx.BufferStore):
        yield statement, loops, block
    elif isinstance(statement, tirx.SeqStmt):
        for each in statement.seq:
            yield from stores(each, loops, block)
    elif isinstance(statement, s_tir.SBlockRealize):
        yield from stores(statement.block.body, loops, statement)
    else:
        assert isinstance(statement, tirx.For), type(statement)
        yield from stores(statement.body, [*loops, statement], block)


def stride(index, block, var):
    """Return by how much an index in a block changes with a loop's variable; None if not by a constant."""
    total = 0
    for iter_var, value in zip(block.block.iter_vars, block.iter_values, strict=True):
        inner, outer = coefficient(index, iter_var.var), coefficient(value, var)
        if inner != 0 and outer != 0:
            if inner is None or outer is None:
                return None
            total += inner * outer
    return total


def gathered(function):
    """Return the largest number of elements that one statement gathers in straight-line code."""
    from tvm import ir, tirx

    straight = (tirx.ForKind.UNROLLED, tirx.ForKind.VECTORIZED)
    most = 0
    for store, loops, block in stores(function.body, [], None):
        if not loops or loops[-1].kind != tirx.ForKind.VECTORIZED or int(loops[-1].extent) == 1:
            continue
        apart = 0
        for load in find(store.value, ir.TensorLoad):
            strides = [stride(index, block, loops[-1].loop_var) for index in load.indices]
            apart += any(each != 0 for each in strides[:-1]) or strides[-1] not in (0, 1)
        most = max(most, apart * math.prod(int(loop.extent) for loop in loops if loop.kind in straight))
    return most


@pytest.mark.parametrize("kind", KINDS)
def test_gathered_elements_are_bounded(kind):
    for extent, (name, machine) in itertools.product(EXTENTS, MACHINES.items()):
        scheduled = schedule_function(KINDS[kind](extent), machine)
        assert gathered(scheduled) <= GATHERED, f"{kind} of {extent} on {name}"


def test_the_bound_is_seen():
    """The count sees gathers: a transpose vectorised over its whole row gathers each element."""
    import tvm
    from tvm import s_tir

    sch = s_tir.Schedule(tvm.IRModule({"main": KINDS["transpose"](152)}))
    (block,) = sch.get_child_blocks(sch.get_sblock("root"))
    *_, rows, columns = sch.get_loops(block)
    sch.unroll(rows)
    sch.vectorize(columns)
    assert gathered(sch.mod["main"]) == 3 * 20


def hashed(divide, times=4):
    """A polynomial of positions modulo a number that is read: the remainder of a product of a remainder, and so on."""
    from tvm import te

    x, prime = te.placeholder((4096,), "int64", "x"), te.placeholder((), "int64", "prime")

    def step(last):
        return te.compute((4096,), lambda i: divide(last[i] * x[i] + 7, prime[()]))

    value = x
    for _ in range(times):
        value = step(value)
    return te.create_prim_func([x, prime, value])


@pytest.mark.parametrize("name", ["floormod", "floordiv", "truncmod", "truncdiv"])
def test_no_division_is_inside_another(name):
    """TVM lowers each to an expression with several copies of its dividend."""
    from tvm import tirx

    kinds = (tirx.FloorMod, tirx.FloorDiv, tirx.Mod, tirx.Div)
    function = hashed(getattr(tirx, name))
    for machine in MACHINES.values():
        scheduled = schedule_function(function, machine)
        found = [find(store.value, kinds) for store, _, _ in stores(scheduled.body, [], None)]
        assert [len(each) for each in found] == [1] * 4
