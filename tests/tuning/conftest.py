"""The agent, a network, and candidates."""

import shutil

import pytest
from tune_kit import CRASHING_KERNEL, target, two_convolutions

from edgepack.agent.build import build_agent
from edgepack.toolchain.zig import MUSL, compile_c
from edgepack.tuning.link import candidate_linker


@pytest.fixture(scope="session")
def agent(tmp_path_factory):
    return shutil.copy(build_agent("x86_64", MUSL), tmp_path_factory.mktemp("tools") / "edgepack-agent")


@pytest.fixture(scope="session")
def net(tmp_path_factory):
    return two_convolutions(tmp_path_factory.mktemp("net") / "net.onnx")


@pytest.fixture(scope="session")
def kernel(tmp_path_factory):
    """A program with a good kernel: adds two vectors of 1024."""
    import tvm
    from tvm import te

    from edgepack.tuning.build_server import build

    a, b = te.placeholder((1024,), name="a"), te.placeholder((1024,), name="b")
    function = te.create_prim_func([a, b, te.compute((1024,), lambda i: a[i] + b[i], name="c")])
    mod = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    out = tmp_path_factory.mktemp("kernel") / "add"
    build(tvm.ir.save_json(mod), target(), str(out))
    return out


@pytest.fixture(scope="session")
def crashing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crashing")
    (folder / "kernel.c").write_text(CRASHING_KERNEL)
    compiled = compile_c([folder / "kernel.c"], folder / "kernel.o", "x86_64", MUSL, ("-c", "-O1", "-w"))
    candidate_linker("x86_64").link(compiled, folder / "crash", 0)
    return folder / "crash"
