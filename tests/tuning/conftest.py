"""The agent in the layout of a bundle, a network, and candidates built from it."""

import shutil

import pytest
from tune_kit import CRASHING_KERNEL, target, two_convolutions

from edgepack.agent.build import build_agent
from edgepack.bundle.runtime import runtime_libs
from edgepack.toolchain.zig import compile_c


@pytest.fixture(scope="session")
def agent(tmp_path_factory):
    root = tmp_path_factory.mktemp("tools")
    for folder in ("bin", "lib"):
        (root / folder).mkdir()
    shutil.copy(build_agent("x86_64", "2.31"), root / "bin" / "edgepack-agent")
    for name, path in runtime_libs("x86_64").items():
        shutil.copy(path, root / "lib" / name)
    return root / "bin" / "edgepack-agent"


@pytest.fixture(scope="session")
def net(tmp_path_factory):
    return two_convolutions(tmp_path_factory.mktemp("net") / "net.onnx")


@pytest.fixture(scope="session")
def kernel(tmp_path_factory):
    """A library with a good kernel: adds two vectors of 1024."""
    import tvm
    from tvm import te

    from edgepack.tuning.link import fcompile

    a, b = te.placeholder((1024,), name="a"), te.placeholder((1024,), name="b")
    function = te.create_prim_func([a, b, te.compute((1024,), lambda i: a[i] + b[i], name="c")])
    mod = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    out = tmp_path_factory.mktemp("kernel") / "add.so"
    tvm.tirx.build(mod, target=tvm.target.Target(target().tvm)).export_library(str(out), fcompile=fcompile)
    return out


@pytest.fixture(scope="session")
def crashing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crashing")
    (folder / "kernel.c").write_text(CRASHING_KERNEL)
    return compile_c(
        [folder / "kernel.c"], folder / "crash.so", "x86_64", "2.31", ("-shared", "-fPIC", "-O1", "-w")
    )
