"""The agent in the layout of a bundle, with models and kernels for it to run."""

import shutil
import subprocess

import pytest
from agent_kit import (
    BAD_KERNEL,
    LIBC,
    TARGETS,
    Bundle,
    export,
    headers,
    matmul_kernel,
    mlp,
    sorting,
    zoo_of_dtypes,
)
from programs import need

from edgepack.agent.build import SOURCES, agent_sources, build_agent
from edgepack.bundle.runtime import runtime_libs
from edgepack.executor.build import HEADERS
from edgepack.toolchain.zig import compile_c


def _bundle(root, arch, prefix=()):
    for folder in ("bin", "lib", "model", "sample"):
        (root / folder).mkdir(parents=True)
    shutil.copy(build_agent(arch, LIBC), root / "bin" / "edgepack-agent")
    for name, path in runtime_libs(arch).items():
        shutil.copy(path, root / "lib" / name)
    return Bundle(root, arch, prefix)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    made = _bundle(tmp_path_factory.mktemp("bundle-x86_64"), "x86_64")
    for name, module in {
        "mlp": mlp()[0],
        "dtypes": zoo_of_dtypes(),
        "kernel": matmul_kernel(),
        "slow": matmul_kernel(512),
    }.items():
        export(module, TARGETS["x86_64"], made.library(name))
    export(sorting(), TARGETS["x86_64"], made.library("sort"))
    return made


@pytest.fixture(scope="session")
def arm_bundle(tmp_path_factory):
    """The same for aarch64, run by qemu-user in the virtual boards' userland."""
    from edgepack.remote.virtual import rootfs

    qemu = need("qemu-aarch64-static", "qemu-user-static")
    prefix = (qemu, "-L", str(rootfs.ensure("aarch64", "bookworm")))
    made = _bundle(tmp_path_factory.mktemp("bundle-aarch64"), "aarch64", prefix)
    for name, module in {"mlp": mlp()[0], "kernel": matmul_kernel()}.items():
        export(module, TARGETS["aarch64"], made.library(name))
    return made


@pytest.fixture(scope="session")
def bad_kernels(tmp_path_factory):
    """Libraries whose kernels crash in different ways."""
    folder = tmp_path_factory.mktemp("bad")
    source = folder / "kernel.c"
    source.write_text(BAD_KERNEL)
    kinds = ("segv", "hang", "exit", "abort")
    return {
        kind: compile_c(
            [source], folder / f"{kind}.so", "x86_64", LIBC, ("-shared", "-fPIC", "-O1", "-w", f"-DKIND={i}")
        )
        for i, kind in enumerate(kinds)
    }


@pytest.fixture(scope="session")
def sanitized(bundle, tmp_path_factory):
    """The agent under AddressSanitizer and UndefinedBehaviorSanitizer, beside the same libraries."""
    clang = need("clang", "clang libclang-rt-14-dev")
    out = bundle.root / "bin" / "edgepack-agent-sanitized"
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
    defines = ('-DEDGEPACK_VERSION="test"', '-DEDGEPACK_TVM_VERSION="test"', "-D_GNU_SOURCE")
    sources = map(str, agent_sources(LIBC))
    # TVM throws C++ exceptions: AddressSanitizer finds the real __cxa_throw at start-up or not at all.
    link = ("-Wl,-rpath,$ORIGIN/../lib", "-ldl", "-Wl,--no-as-needed", "-l:libstdc++.so.6")
    options = (
        "-std=c11",
        "-O1",
        "-g",
        *sanitizers,
        *defines,
        f"-I{SOURCES}",
        f"-I{headers()}",
        f"-I{HEADERS}",
    )
    subprocess.run([clang, *options, *sources, *link, "-o", str(out)], check=True)
    return out
