"""CUDA kernels are compiled for the board's architecture and embedded in the library."""

import hashlib
import os
import struct

import pytest
import tvm_ffi

from edgepack.config.target import load_target
from edgepack.errors import EdgepackError
from edgepack.lower import compile_model
from edgepack.lower.emit import library
from edgepack.lower.emit.cubin import embed
from edgepack.toolchain import cubin, cuda, nvrtc

SOURCE = """
#ifdef __CUDACC_RTC__
#include <cuda/std/cstdint>
#include <cuda/std/type_traits>
using cuda::std::int64_t;
static_assert(cuda::std::is_same_v<cuda::std::int8_t, signed char> && cuda::std::is_signed<int>::value, "");
#else
#include <cstdint>
#endif
extern "C" __global__ void __launch_bounds__(32) twice(float* y, const float* x, int64_t n) {
  if (threadIdx.x < n) y[threadIdx.x] = 2 * x[threadIdx.x];
}
"""


def _require(found, what):
    if not found:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{what} is missing")
        pytest.skip(f"{what} is missing")


@pytest.fixture(params=["nvcc", "nvrtc"])
def compiler(request, monkeypatch):
    if request.param == "nvcc":
        _require(cuda.nvcc(), "nvcc")
    else:
        _require(nvrtc.library(), "NVRTC (pip install 'edgepack[cuda]')")
    monkeypatch.setenv("EDGEPACK_CUDA_COMPILER", request.param)
    return request.param


@pytest.mark.parametrize("arch", ["sm_87", "sm_110"])
def test_a_cubin_names_its_kernels_and_architecture(compiler, arch, tmp_path):
    library = tmp_path / "some.bin"
    library.write_bytes(b"\x7fELF not a cubin" + b"\0" * 99 + cuda.compile_cubin(SOURCE, arch) + b"tail")
    assert [(kernel.name, kernel.arch) for kernel in cubin.kernels(library)] == [("twice", arch)]


def test_a_compile_error_is_shown(compiler):
    with pytest.raises(EdgepackError) as caught:
        cuda.compile_cubin("__global__ void f() { nonsense; }", "sm_87")
    assert "nonsense" in caught.value.why


def test_a_jetson_build_carries_its_kernels(compiler, one_node, tmp_path):
    path = one_node("Softmax", {"x": [1, 40]}, {}, out_shape=[1, 40])
    compiled = compile_model(path, load_target("jetson-orin"), tmp_path / "m.so")
    kernels = cubin.kernels(compiled.path)
    assert kernels
    assert {kernel.arch for kernel in kernels} == {"sm_87"}
    assert all("softmax" in kernel.name for kernel in kernels)
    assert b"__global__" not in compiled.path.read_bytes(), "the source is replaced, boards cannot compile it"
    assert any("CUDA 13.0" in need and "JetPack 7.2" in need for need in compiled.requires)
    (module,) = compiled.sources
    (embedded,) = cubin.read_cubins(compiled.path)
    assert embedded.digest == hashlib.sha256(module.cubin).hexdigest()
    assert "__global__" in module.source
    assert all(kernel.name in module.source for kernel in kernels)


def test_a_build_for_a_cpu_has_no_cuda_modules(one_node, tmp_path):
    path = one_node("Softmax", {"x": [1, 40]}, {}, out_shape=[1, 40])
    compiled = compile_model(path, load_target("x86-64-v3"), tmp_path / "m.so")
    assert compiled.sources == ()
    assert cubin.read_cubins(compiled.path) == ()


def test_what_tvm_itself_has_compiled_is_kept_too(compiler):
    ours = library.use_our_cuda_compiler(load_target("jetson-orin"))
    made = tvm_ffi.get_global_func("tvm_callback_cuda_compile")(SOURCE)
    assert ours.modules == [(SOURCE, bytes(made))]
    assert ours(SOURCE) == ours.modules[1].cubin
    again = library.use_our_cuda_compiler(load_target("jetson-thor"))
    assert again.modules == []


def test_cubins_are_found_by_their_own_size(compiler):
    made = cuda.compile_cubin(SOURCE, "sm_87")
    digest = hashlib.sha256(made).hexdigest()
    assert [each.digest for each in cubin.cubins(b"\x7fELF" + made + b"\x7fELF" + made + b"tail")] == [digest, digest]
    assert cubin.cubins(made[:-1]) == ()


def test_without_a_compiler_the_extra_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setattr(nvrtc, "library", lambda: None)
    with pytest.raises(EdgepackError) as caught:
        cuda.compile_cubin(SOURCE, "sm_87")
    assert "edgepack[cuda]" in caught.value.next


def test_embed_replaces_source_by_cubin():
    def string(content):
        return struct.pack("<Q", len(content)) + content

    table = struct.pack("<Q", 1) + string(b"twice") + string(b"cuda")
    module = string(b"cuda") + table + string(SOURCE.encode())
    before = string(b"tree" + string(b"_lib") + string(b"cuda") + string(module) + string(b"other"))
    after = embed(before, SOURCE, b"CUBIN")
    module = string(b"cubin") + table + string(b"CUBIN")
    assert after == string(b"tree" + string(b"_lib") + string(b"cuda") + string(module) + string(b"other"))
    with pytest.raises(EdgepackError):
        embed(before, "other source", b"CUBIN")
