"""CUDA kernels are compiled for the board's architecture and embedded in the library."""

import hashlib
import os
import re
import struct
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tvm_ffi

from benchmarks.kit.half import to_half
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


def test_inputs_may_have_any_name(compiler, one_node, tmp_path):
    names = ["serving/x:0", "serving_x:0", "a b", "café", "1", "float", "x.1", "-", "x(); //"]
    path = one_node("Sum", {name: [1, 40] for name in names}, {}, out_shape=[1, 40])
    compiled = compile_model(path, load_target("jetson-orin"), tmp_path / "m.so")
    assert [each.name for each in compiled.inputs] == names
    assert cubin.kernels(compiled.path)


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
    assert [each.digest for each in cubin.cubins(b"\x7fELF" + made + b"\x7fELF" + made + b"tail")] == [
        digest,
        digest,
    ]
    assert cubin.cubins(made[:-1]) == ()


@pytest.fixture(scope="module")
def networks(network, quantized_network, tmp_path_factory):
    half = to_half(network, tmp_path_factory.mktemp("half") / "half.onnx")
    return {"fp32": network, "fp16": half, "int8": quantized_network}


@pytest.fixture
def sources(monkeypatch):
    """The CUDA sources that a test compiles, in order."""
    seen, compile_cubin = [], cuda.compile_cubin
    monkeypatch.setattr(
        cuda, "compile_cubin", lambda code, arch: seen.append(code) or compile_cubin(code, arch)
    )
    return seen


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("target", ["jetson-orin", pytest.param("jetson-thor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_precision_builds_for_both_jetsons(networks, precision, target, sources, tmp_path):
    board = load_target(target)
    kernels = cubin.kernels(compile_model(networks[precision], board, tmp_path / "m.so").path)
    assert {kernel.arch for kernel in kernels} == {board.gpu.arch}
    [source] = sources
    assert {kernel.name for kernel in kernels} == set(re.findall(r"(\w+_kernel\w*)\(", source))
    assert ("cuda_fp16.h" in source) == (precision == "fp16")
    assert "cuda_bf16.h" not in source


@pytest.mark.slow  # parses TVM's tensor intrinsics
@pytest.mark.usefixtures("compiler")
def test_tensor_cores_sum_float16_in_float32(one_node, sources, tmp_path):
    weights = np.ones((128, 128), "float32")
    path = one_node("MatMul", {"x": [128, 128]}, {"w": weights}, out_shape=[128, 128])
    half = to_half(path, tmp_path / "half.onnx")
    library = compile_model(half, load_target("jetson-orin"), tmp_path / "m.so").path
    assert cubin.kernels(library)
    [source] = sources
    assert "wmma::accumulator, 16, 16, 16, float>" in source
    assert "wmma::accumulator, 16, 16, 16, half>" not in source


def test_no_library_of_nvidia_is_in_a_build(compiler, one_node, tmp_path):
    path = one_node("Softmax", {"x": [1, 40]}, {}, out_shape=[1, 40])
    library = compile_model(path, load_target("jetson-orin"), tmp_path / "m.so").path.read_bytes()
    for trace in (b"libcudart", b"libnvrtc", b"site-packages"):
        assert trace not in library


def test_nvrtc_loads_nothing_else_of_nvidias_wheels(tmp_path):
    _require(nvrtc.library(), "NVRTC (pip install 'edgepack[cuda]')")
    program = (
        "from pathlib import Path; from edgepack.toolchain import nvrtc\n"
        "code = '#include <cuda_fp16.h>\\n#include <cuda/std/cstdint>\\n__global__ void f(half *x) { *x = *x + *x; }'\n"
        "nvrtc.compile_cubin(code, 'sm_87', nvrtc.library())\n"
        "print(*{line.split('/')[-1] for line in Path('/proc/self/maps').read_text().splitlines() if '/nvidia/' in line})"
    )
    environment = os.environ | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert {name.split(".so")[0] for name in done.stdout.split()} == {"libnvrtc", "libnvrtc-builtins"}
    assert not list(tmp_path.iterdir()), "NVRTC's own cache"


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder in place of NVIDIA's wheels, with all that a build looks for in two places on the search path."""
    packages = {
        "nvrtc": "a/cu13/lib/libnvrtc.so.13",
        "runtime": "a/cu13/include/cuda_fp16.h",
        "crt": "b/cu13/include/crt/mma.h",
        "cccl": "b/cu13/include/cccl/cuda/std/type_traits",
    }
    for file in (*packages.values(), "b/cu12/include/cuda_fp16.h"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    places = SimpleNamespace(submodule_search_locations=[str(tmp_path / "a"), str(tmp_path / "b")])
    monkeypatch.setattr(nvrtc.importlib.util, "find_spec", {"nvidia": places}.get)
    return {name: tmp_path / file for name, file in packages.items()}


def test_headers_are_found_in_every_place_of_the_namespace_package(wheels, tmp_path):
    a, b = tmp_path / "a/cu13/include", tmp_path / "b/cu13/include"
    assert nvrtc.library() == wheels["nvrtc"]
    assert nvrtc.include_folders(wheels["nvrtc"]) == (a, b, a / "cccl", b / "cccl")


@pytest.mark.parametrize("missing", ["runtime", "crt", "cccl"])
def test_a_missing_header_names_its_wheel_and_the_extra(wheels, missing):
    wheels[missing].unlink()
    with pytest.raises(EdgepackError, match=f"nvidia-cuda-{missing}") as caught:
        nvrtc.include_folders(wheels["nvrtc"])
    assert "pip install 'edgepack[cuda]'" in caught.value.next


def test_a_header_that_is_missing_later_names_the_extra(monkeypatch):
    _require(nvrtc.library(), "NVRTC (pip install 'edgepack[cuda]')")
    with pytest.raises(EdgepackError) as caught:
        nvrtc.compile_cubin("#include <nv/nothing>", "sm_87", nvrtc.library())
    assert "nv/nothing" in caught.value.why
    assert "pip install 'edgepack[cuda]'" in caught.value.next


def test_the_compilers_identity_has_the_versions_of_the_headers(wheels, monkeypatch):
    monkeypatch.setenv("EDGEPACK_CUDA_COMPILER", "nvrtc")
    monkeypatch.setattr(nvrtc, "tool_version", lambda name: f"1.{len(name)}")
    expected = "libnvrtc.so.13 nvidia-cuda-nvrtc 1.17 nvidia-cuda-runtime 1.19 nvidia-cuda-crt 1.15 nvidia-cuda-cccl 1.16"
    assert cuda.compiler_identity() == expected


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
