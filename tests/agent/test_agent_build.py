"""Building the agent and downloading the runtime: cached by content, pinned by digest, usable on old boards."""

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys

import pytest
from agent_kit import LIBC
from programs import need

from edgepack.agent import build
from edgepack.bundle import runtime, wheels
from edgepack.errors import EdgepackError, IntegrityError
from edgepack.spec.runtime import BASE, CUDA, EXTRA
from edgepack.toolchain import zig
from edgepack.toolchain.zig import MUSL


def symbols(path, *flags):
    done = subprocess.run(
        [need("nm", "binutils"), "-D", *flags, path], capture_output=True, text=True, check=True
    )
    return {line.split()[-1] for line in done.stdout.splitlines()}


def glibc_floor(path):
    versions = re.findall(rb"GLIBC_2\.(\d+)\0", path.read_bytes())
    return max(map(int, versions))


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_the_agent_needs_no_newer_glibc_than_its_floor(arch):
    assert glibc_floor(build.build_agent(arch, LIBC)) <= int(LIBC.partition(".")[2])


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_the_agent_needs_libc_alone_and_the_runtime_has_what_it_looks_up(arch):
    agent = build.build_agent(arch, LIBC)
    header = subprocess.run(
        [need("objdump", "binutils"), "-p", agent], capture_output=True, text=True, check=True
    )
    assert set(re.findall(r"NEEDED +(\S+)", header.stdout)) <= {"libc.so.6", "libdl.so.2", "libpthread.so.0"}
    wanted = set(re.findall(r'{"(TVMFFI\w+)", &ffi', (build.SOURCES / "dynamic/tvm.c").read_text()))
    assert "TVMFFIFunctionCall" in wanted
    assert wanted <= symbols(runtime.runtime_libs(arch)["libtvm_ffi.so"], "--defined-only")


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_a_static_agent_needs_nothing_of_the_board(arch):
    header = subprocess.run(
        [need("objdump", "binutils"), "-p", build.build_agent(arch, MUSL)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "NEEDED" not in header.stdout
    assert "INTERP" not in header.stdout


def test_a_static_agent_describes_the_board():
    done = subprocess.run(
        [build.build_agent("x86_64", MUSL), "info"], capture_output=True, check=True, env={}, timeout=60
    )
    described = json.loads(done.stdout)
    assert (described["ok"], described["arch"]) == (True, "x86_64")
    assert described["libc"].startswith("glibc")  # the board's, and not its own


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A copy of the agent's sources and a cache, which tests can modify."""
    shutil.copytree(build.SOURCES, tmp_path / "src")
    monkeypatch.setattr(build, "SOURCES", tmp_path / "src")
    monkeypatch.setattr(build, "cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "src"


def test_the_agent_is_built_once_and_again_when_a_source_changes(sources):
    first = build.build_agent("x86_64", LIBC)
    before = first.stat().st_mtime_ns
    assert build.build_agent("x86_64", LIBC).stat().st_mtime_ns == before
    header = sources / "fail.h"
    header.write_text(header.read_text() + "/* changed */\n")
    assert build.build_agent("x86_64", LIBC) != first


def test_a_broken_source_is_an_error_with_the_compilers_words(sources):
    (sources / "fail.c").write_text("int x = ;\n")
    with pytest.raises(EdgepackError) as caught:
        build.build_agent("x86_64", LIBC)
    assert "fail.c:1:9: error: expected expression" in caught.value.why
    assert list((sources.parent / "cache/agent").iterdir()) == []


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_the_runtime_is_the_pinned_one(arch):
    libraries = runtime.runtime_libs(arch, (*BASE, EXTRA, CUDA))
    assert sorted(libraries) == [
        "libtvm_ffi.so",
        "libtvm_runtime.so",
        "libtvm_runtime_cuda.so",
        "libtvm_runtime_extra.so",
    ]
    assert all(glibc_floor(path) <= 27 for path in libraries.values())
    assert "libtvm_runtime_cuda.so" not in runtime.runtime_libs(arch)


def test_the_pinned_versions_are_those_edgepack_compiles_with():
    assert importlib.metadata.version("apache-tvm") == runtime.TVM_VERSION
    assert importlib.metadata.version("apache-tvm-ffi") == runtime.FFI_VERSION


def test_a_changed_library_in_the_cache_is_refused(tmp_path, monkeypatch):
    libraries = runtime.runtime_libs("aarch64")
    for path in libraries.values():
        target = tmp_path / "runtime" / path.parent.name / path.name
        target.parent.mkdir(parents=True)
        target.write_bytes(path.read_bytes()[:-1] + b"!")
    monkeypatch.setattr(runtime, "cache_dir", lambda: tmp_path)
    with pytest.raises(IntegrityError, match="is not the library of apache-tvm"):
        runtime.runtime_libs("aarch64")


def test_a_wheel_that_is_not_the_pinned_one_is_refused(tmp_path, monkeypatch):
    def wrong(wheel, folder):
        (folder / wheel.filename).write_bytes(b"something else")
        return folder / wheel.filename

    monkeypatch.setattr(runtime, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr(wheels, "_download", wrong)
    with pytest.raises(IntegrityError, match="is not the pinned wheel"):
        runtime.runtime_libs("aarch64")
    assert not list(tmp_path.rglob("*.so"))


def test_without_a_network_it_works_from_the_cache_and_else_says_what_to_do(tmp_path, monkeypatch):
    runtime.runtime_libs("aarch64")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert runtime.runtime_libs("aarch64")
    monkeypatch.setattr(runtime, "cache_dir", lambda: tmp_path)
    with pytest.raises(EdgepackError) as caught:
        runtime.runtime_libs("aarch64")
    assert "connect this machine" in caught.value.next


def test_sorting_models_need_the_extra_library_and_run_with_it(bundle, tmp_path):
    import numpy as np

    shutil.copytree(bundle.root, tmp_path / "without")
    shutil.copytree(bundle.root, tmp_path / "with")
    shutil.copy(runtime.runtime_libs("x86_64", (EXTRA,))[EXTRA], tmp_path / "with/lib")
    values = np.random.default_rng(3).standard_normal((1, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    options = [
        "run",
        "--model",
        bundle.library("sort"),
        "--input",
        tmp_path / "x.npy",
        "--output-dir",
        tmp_path,
    ]
    without = subprocess.run(
        [tmp_path / "without/bin/edgepack-agent", *options], capture_output=True, check=False
    )
    assert without.returncode != 0
    subprocess.run([tmp_path / "with/bin/edgepack-agent", *options], check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "output-0.npy"), np.argsort(values))


def test_an_unknown_architecture_is_named():
    with pytest.raises(EdgepackError, match="no TVM runtime is pinned for riscv64"):
        runtime.runtime_libs("riscv64")


def test_an_unknown_library_is_named():
    with pytest.raises(EdgepackError, match=r"no runtime library libtvm_runtime_vulkan.so is pinned"):
        runtime.runtime_libs("x86_64", ("libtvm_runtime_vulkan.so",))


def test_it_imports_nothing_heavy():
    code = "import sys, edgepack.agent.build, edgepack.agent.protocol, edgepack.bundle.runtime; print({'tvm', 'tvm_ffi', 'numpy', 'torch'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "set()\n"
    )


def test_what_zig_links_is_told_from_how_it_builds_its_own_parts(monkeypatch):
    """With an empty cache, zig links crt1.o first."""

    def said(_argv, out):
        own = "ld.lld -r -o /cache/1/crt1.o /cache/0/crt1.o"
        return f"{own}\nld.lld -static -o {out} /cache/1/crt1.o /cache/2/empty.o /cache/3/libc.a /cache/4/libzigc.a\n"

    monkeypatch.setattr(zig, "_run", said)
    start, libraries = zig.static_parts.__wrapped__("x86_64")
    assert list(map(str, start)) == ["/cache/1/crt1.o"]
    assert [path.name for path in libraries] == ["libc.a", "libzigc.a"]
