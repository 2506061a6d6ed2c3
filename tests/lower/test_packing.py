"""Constants packed with NumPy equal those that a compiled kernel packs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.lower.graph.packing import pack_constants
from edgepack.lower.phase import Facts


def module(source, packed):
    """A model whose output is a constant, copied by a kernel into the layout ``packed``, a function of its indices."""
    import tvm
    from tvm import relax, s_tir, te

    given = te.placeholder(source.shape, str(source.dtype), "given")
    kernel = te.create_prim_func([given, te.compute(source.shape, given.__call__, "copy")])
    sch = s_tir.Schedule(tvm.IRModule({"main": kernel}))
    sch.transform_layout("copy", ("write", 0), packed)
    (_, written) = sch.mod["main"].params
    builder = relax.BlockBuilder()
    with builder.function("main", []):
        pack = builder.add_func(sch.mod["main"].without_attr("global_symbol"), "pack")
        out = relax.TensorType([int(extent) for extent in written.shape], str(source.dtype))
        constant = relax.const(source, str(source.dtype))
        builder.emit_func_output(builder.emit(relax.call_tir(pack, (constant,), out)))
    return builder.get()


def constant(mod):
    """Return the constant that a model returns; None if it still calls a kernel."""
    from tvm import ir

    value = mod["main"].body.blocks[0].bindings[0].value
    return value.value.numpy() if isinstance(value, ir.GenericConst) else None


def compiled(mod):
    import tvm
    from tvm import relax

    machine = relax.VirtualMachine(relax.build(mod, target="llvm"), tvm.cpu())
    return machine["main"]().numpy()


@st.composite
def layouts(draw):
    """A shape, which axis is split by what, and the order of the resulting axes."""
    parts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    split = draw(st.integers(0, len(parts) - 1))
    shape = [part * draw(st.integers(1, 3)) if axis == split else part for axis, part in enumerate(parts)]
    return shape, split, parts[split], draw(st.permutations(range(len(shape) + 1)))


@settings(max_examples=20, deadline=None)
@given(layouts(), st.sampled_from(["float32", "int8", "float16"]))
def test_layouts_of_one_split_axis(layout, dtype):
    shape, split, part, order = layout
    source = np.arange(np.prod(shape)).reshape(shape).astype(dtype)

    def packed(*index):
        pieces = [*index[:split], index[split] // part, index[split] % part, *index[split + 1 :]]
        return [pieces[axis] for axis in order]

    pieces = [*shape[:split], shape[split] // part, part, *shape[split + 1 :]]
    found = constant(pack_constants(module(source, packed), Facts()))
    if found is None:  # TVM simplifies i // 1 and i % 1, to which no axis belongs
        assert 1 in pieces
    else:
        np.testing.assert_array_equal(found, source.reshape(pieces).transpose(order))


@pytest.mark.parametrize(
    "packed",
    [
        lambda i, j: [i // 4, j, i % 4],
        lambda i, j: [j // 2, i // 4, i % 4, j % 2],
        lambda i, j: [j, i],
        lambda i, j: [i // 8, i % 8 // 4, j, i % 4],  # split twice: left to TVM
        lambda i, j: [i * 6 + j],  # fused: left to TVM
    ],
)
def test_the_same_as_a_compiled_kernel(packed):
    source = np.random.default_rng(0).standard_normal((16, 6)).astype("float32")
    mod = module(source, packed)
    np.testing.assert_array_equal(compiled(pack_constants(mod, Facts())), compiled(mod))
