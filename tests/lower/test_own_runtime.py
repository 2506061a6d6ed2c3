"""Kernels that the runtime of CPU models does not have the functions for."""

import pytest

from edgepack.config.target import load_target
from edgepack.lower.emit import objects
from edgepack.lower.emit.aot import executor
from edgepack.lower.emit.aot.errors import NeedsMachineError
from edgepack.lower.emit.aot.kernels import PIPELINE, register, small_loops_on_one_thread


def test_kernels_that_call_functions_by_name_are_refused(tmp_path):
    import tvm
    from tvm.script import tirx as T  # noqa: N812 - as in TVM

    @T.prim_func
    def kernel(a: T.Buffer((4,), "float32"), b: T.Buffer((4,), "float32")):
        T.evaluate(T.call_packed("a.function", a.data))
        for i in range(4):
            b[i] = a[i]

    target = load_target("x86-64-v2")
    register(target, "kernel_")
    module = tvm.IRModule({"kernel": kernel.without_attr("global_symbol")})
    files = objects.object_files(module, tvm.target.Target(target.tvm), tmp_path, PIPELINE)
    with pytest.raises(NeedsMachineError) as raised:
        executor._check_calls(files)
    assert "__TVMFFIFunctionCall" in raised.value.why


def test_only_loops_with_enough_work_are_shared():
    import tvm
    from tvm import tirx
    from tvm.script import tirx as T  # noqa: N812 - as in TVM

    @T.prim_func
    def kernel(a: T.Buffer((64, 8), "float32"), b: T.Buffer((200, 200), "float32"), n: T.int32):
        for i in T.parallel(64):
            for j in T.vectorized(8):
                a[i, j] = T.float32(1)
        for i in T.parallel(200):
            for j in range(200):
                b[i, j] = T.float32(1)
        for i in T.parallel(n):
            b[i, 0] = T.float32(1)

    made = small_loops_on_one_thread()(tvm.IRModule({"kernel": kernel}))
    kinds = [tirx.ForKind(loop.kind) for loop in made["kernel"].body.seq]
    assert kinds == [tirx.ForKind.SERIAL, tirx.ForKind.PARALLEL, tirx.ForKind.PARALLEL]
