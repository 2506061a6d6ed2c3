"""Search spaces use the target's features where they are correct; vectors appear in the assembly."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgepack.config.target import list_targets, load_target
from edgepack.schedules import FAMILIES, tvm_target
from edgepack.schedules.fallback import schedule_function
from edgepack.schedules.tiles import machine


@pytest.fixture(autouse=True)
def without_stock_intrinsics(monkeypatch):
    """``TuneContext`` imports TVM's own intrinsics: 17 s of parsing that ours do not need."""
    monkeypatch.setitem(sys.modules, "tvm.s_tir.tensor_intrin", ModuleType("tvm.s_tir.tensor_intrin"))


def vnni_target():
    base = load_target("x86-64-v4")
    cpu = base.cpu.model_copy(update={"features": (*base.cpu.features, "avx512vnni")})
    return base.model_copy(update={"cpu": cpu, "tvm": {**base.tvm, "mcpu": "cascadelake"}})


def int8_product(lanes, data, weight, accumulator, *, packed):
    """``[16, 64] x [64, 64]`` with the weights as [n / lanes, k / 4, lanes, 4], or plain [n, k]."""
    from tvm import te

    a = te.placeholder((16, 64), data, "a")
    b = te.placeholder((64 // lanes, 16, lanes, 4) if packed else (64, 64), weight, "b")
    r = te.reduce_axis((0, 64), "r")

    def element(i, j):
        w = b[j // lanes, r // 4, j % lanes, r % 4] if packed else b[j, r]
        return te.sum(a[i, r].astype(accumulator) * w.astype(accumulator), axis=r)

    function = te.create_prim_func([a, b, te.compute((16, 64), element)])
    return function.with_attrs({"layout_free_buffers": [1], "global_symbol": "main"})


def tensorized(function, target):
    """Schedules of a few draws from the space that use one of our intrinsics, compiled."""
    import tvm
    from tvm.s_tir import meta_schedule as ms

    libraries = []
    for seed in range(1, 4):
        context = ms.TuneContext(
            tvm.IRModule({"main": function}),
            target=tvm_target(target),
            space_generator=FAMILIES[target.family].space(target),
            num_threads=1,
            rand_state=seed,
        )
        for sch in context.generate_design_space():
            if "edgepack." not in str(sch.trace):
                continue
            if all(postproc.apply(sch) for postproc in context.space_generator.postprocs):
                try:
                    libraries.append(tvm.compile(sch.mod, target=tvm_target(target)))
                except tvm.error.InternalError:
                    continue  # MetaSchedule drops draws that do not build, such as vectors around the intrinsic
    return libraries


def test_vnni_is_used_and_exact():
    import tvm

    libraries = tensorized(int8_product(16, "uint8", "int8", "int32", packed=True), vnni_target())
    assert libraries
    assert all("vpdpbusd" in library.mod.inspect_source("asm") for library in libraries)
    if "avx512_vnni" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        return  # the assembly is checked; only a CPU to run it is missing
    random = np.random.default_rng(0)
    a, b = random.integers(0, 256, (16, 64), "uint8"), random.integers(-128, 128, (64, 64), "int8")
    packed = np.ascontiguousarray(b.reshape(4, 16, 16, 4).transpose(0, 2, 1, 3))
    for library in libraries:
        tensors = [tvm.runtime.tensor(v) for v in (a, packed, np.zeros((16, 64), "int32"))]
        library["main"](*tensors)
        np.testing.assert_array_equal(tensors[2].numpy(), a.astype("int32") @ b.T.astype("int32"))


def test_weights_in_another_layout_get_no_intrinsic():
    assert not tensorized(int8_product(16, "uint8", "int8", "int32", packed=False), vnni_target())


@pytest.mark.parametrize(("kind", "instruction"), [("int8", "sdot"), ("uint8", "udot")])
def test_dot_products_on_the_cortex_a76(kind, instruction):
    accumulator = "int32" if kind == "int8" else "uint32"
    libraries = tensorized(int8_product(4, kind, kind, accumulator, packed=True), load_target("rpi5"))
    assert libraries
    assert all(f"{instruction}\t" in library.mod.inspect_source("asm") for library in libraries)


def test_the_cortex_a72_gets_none():
    assert not tensorized(int8_product(4, "int8", "int8", "int32", packed=True), load_target("rpi4"))


@pytest.mark.parametrize("name", [target.name for target in list_targets()])
def test_every_target_has_a_space_and_a_fallback(name):
    import tvm

    target = load_target(name)
    space = FAMILIES[target.family].space(target)
    assert len(space.sch_rules) > 3
    assert space.mutator_probs
    assert isinstance(FAMILIES[target.family].fallback(target), tvm.transform.Pass)


@pytest.mark.parametrize(
    ("name", "instruction"),
    [("arm64", "fmla\tv"), ("rpi4", "fmla\tv"), ("x86-64-v3", "vfmadd"), ("x86-64-v4", "%zmm")],
)
def test_untuned_kernels_are_vectorised(name, instruction):
    import tvm
    from tvm import te, topi

    target = load_target(name)
    x, w = te.placeholder((1, 32, 14, 14), name="x"), te.placeholder((64, 32, 1, 1), name="w")
    function = te.create_prim_func([x, w, topi.nn.relu(topi.nn.conv2d_nchw(x, w, 1, 0, 1))])
    function = function.with_attrs({"layout_free_buffers": [1], "global_symbol": "main"})
    scheduled = schedule_function(function, machine(target))
    assert scheduled.attrs["tirx.is_scheduled"]
    library = tvm.compile(tvm.IRModule({"main": scheduled}), target=tvm_target(target))
    assert library.mod.inspect_source("asm").count(instruction) >= 8
