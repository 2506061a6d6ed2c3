"""The limits of launches, copies and frees of the emulated driver, with CUDA's error numbers."""

import hashlib
import os
import signal
import struct

import pytest
from cubins import HEAD, cubin
from gpu_process import LIBC, ON_DEVICE, TO_DEVICE, TO_HOST, CudaError, DiedError, GpuProcess, prepare

SOURCE = f"""{HEAD}plain(float* a) {{ if (threadIdx.x == 0 && blockIdx.x == 0) a[0] = 7; }}
extern "C" __global__ void __launch_bounds__(64) bounded(float* a) {{ a[0] = 1; }}
{HEAD}dynamic(float* a) {{ extern __shared__ float s[]; s[threadIdx.x] = 1; a[0] = s[0]; }}
{HEAD}both(float* a) {{ __shared__ float t[1024]; extern __shared__ float s[]; t[0] = s[0] = 1; a[0] = t[0] + s[0]; }}
{HEAD}fixed(float* a) {{ __shared__ float s[12289]; s[0] = 1; a[0] = s[0]; }}
{HEAD}wild(float* a) {{ a[64] = 1; }}
{HEAD}nothing() {{}}
"""
SEVEN = struct.pack("f", 7)
KIB = 1024


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    prepare(folder, SOURCE)
    return folder


@pytest.fixture
def gpu(board):
    with GpuProcess(board) as process:
        yield process


def fails(number, text, call, *given, **named):
    with pytest.raises(CudaError) as caught:
        call(*given, **named)
    assert (caught.value.number, text in caught.value.text) == (number, True), caught.value


def works(gpu):
    place = gpu.malloc(4)
    gpu.launch(SOURCE, "plain", place)
    return gpu.download(place, 4) == SEVEN


@pytest.mark.parametrize(
    ("kernel", "grid", "block", "text"),
    [
        ("plain", (1,), (1025,), "1025 threads per block, at most 1024 are possible"),
        ("plain", (1,), (32, 33), "1056 threads per block, at most 1024 are possible"),
        ("plain", (1,), (1, 1, 65), "a block of 65 threads in z, at most 64 are possible"),
        ("plain", (1,), (1 << 22, 1 << 22, 1 << 20), "at most"),
        ("plain", (1, 65536), (1,), "at most (2147483647,65535,65535) are possible"),
        ("plain", (1, 1, 65536), (1,), "a grid of (1,1,65536) blocks"),
        ("plain", (1 << 31,), (1,), "a grid of (2147483648,1,1) blocks"),
        ("bounded", (1,), (65,), "65 threads per block, its __launch_bounds__ are 64"),
        ("plain", (0,), (1,), "an empty grid or block"),
        ("plain", (1, 0), (1,), "an empty grid or block"),
        ("plain", (1,), (1, 1, 0), "an empty grid or block"),
    ],
)
def test_a_launch_beyond_a_limit(gpu, kernel, grid, block, text):
    place = gpu.malloc(4)
    with pytest.raises(CudaError) as caught:
        gpu.launch(SOURCE, kernel, place, grid=grid, block=block)
    assert caught.value.number == 1
    assert f"invalid argument: kernel {kernel}: " in caught.value.text
    assert text in caught.value.text
    assert works(gpu), "a refused launch leaves the device as it was"


def test_launches_at_the_limits(gpu):
    place = gpu.malloc(4)
    gpu.launch(SOURCE, "plain", place, grid=(1, 65535), block=(1,))
    gpu.launch(SOURCE, "plain", place, block=(16, 1, 64))
    gpu.launch(SOURCE, "bounded", place, block=(64,))
    gpu.launch(SOURCE, "nothing", grid=(70000,))
    gpu.synchronize()


def test_dynamic_shared_memory_needs_permission(gpu):
    place = gpu.malloc(4)
    gpu.launch(SOURCE, "dynamic", place, dynamic=48 * KIB)
    fails(
        1, "kernel dynamic: 49153 bytes of dynamic shared memory, at most 49152 are allowed for it",
        gpu.launch, SOURCE, "dynamic", place, dynamic=48 * KIB + 1,
    )  # fmt: skip
    gpu.allow_dynamic(SOURCE, "dynamic", 163 * KIB)
    gpu.launch(SOURCE, "dynamic", place, dynamic=163 * KIB)
    fails(
        1, "at most 166912 are possible on compute capability 8.7",
        gpu.allow_dynamic, SOURCE, "dynamic", 163 * KIB + 1,
    )  # fmt: skip
    fails(1, "at most 166912", gpu.launch, SOURCE, "dynamic", place, dynamic=163 * KIB + 1)
    fails(1, "-1 bytes", gpu.allow_dynamic, SOURCE, "dynamic", -1)
    gpu.synchronize()


def test_static_and_dynamic_shared_memory_count_together(gpu):
    place = gpu.malloc(4)
    gpu.launch(SOURCE, "both", place, dynamic=44 * KIB)
    gpu.synchronize()
    gpu.launch(SOURCE, "both", place, dynamic=44 * KIB + 4)
    fails(1, "4096 bytes of static and 45060 bytes of dynamic shared memory", gpu.synchronize)


def test_too_much_static_shared_memory(gpu):
    gpu.launch(SOURCE, "fixed", gpu.malloc(4))
    fails(719, "49156 bytes of static shared memory, at most 49152 are possible", gpu.synchronize)


def with_registers(registers, name="plain"):
    """A cubin that says how many registers per thread a kernel needs."""
    names = f"\0.text.{name}\0".encode().ljust(64, b"\0")
    section = struct.Struct("<IIQQQQIIQQ")
    sections = [section.pack(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)]
    sections.append(section.pack(1, 1, 6, 0, 64, 0, 0, registers << 24, 1, 0))
    sections.append(section.pack(0, 3, 0, 0, 64, 64, 0, 0, 1, 0))
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, 190, 1, 0, 0, 128, 87 << 8, 64, 0, 0, 64, 3, 2)
    return header + names + b"".join(sections)


def test_registers_for_all_threads_of_a_block(gpu, board):
    from edgepack.emulation import build_module

    image = with_registers(72)
    build_module(SOURCE, hashlib.sha256(image).hexdigest(), board, os.uname().machine, LIBC)
    place = gpu.malloc(4)
    gpu.launch(SOURCE, "plain", place, block=(896,), image=image)
    fails(
        701, "too many resources requested for launch: kernel plain: 928 threads with 72 registers each",
        gpu.launch, SOURCE, "plain", place, block=(928,), image=image,
    )  # fmt: skip
    gpu.synchronize()


def test_every_call_fails_after_a_fault(gpu):
    place = gpu.malloc(128)
    assert works(gpu)
    gpu.launch(SOURCE, "wild", place)  # returns before the kernel has run
    why = "illegal memory access was encountered: kernel wild, block (0,0,0), thread (0,0,0): a write of 4 bytes at offset 256"
    for call, *given in (
        (gpu.synchronize,),
        (gpu.malloc, 4),
        (gpu.malloc, 2**40),
        (gpu.free, place),
        (gpu.free, None),
        (gpu.download, place, 4),
        (gpu.copy, place, place, 4, 9),
        (gpu.pinned, 4),
        (gpu.launch, SOURCE, "plain", place),
        (gpu.launch, SOURCE, "bounded", place),
        (gpu.allow_dynamic, SOURCE, "plain", 4),
        (gpu.unload, SOURCE, "plain"),
        (gpu.memory,),
        (gpu.driver_call, "cudaSetDevice", 0),
        (gpu.driver_call, "cudaFreeHost", None),
        (gpu.driver_call, "cudaStreamDestroy", None),
        (gpu.driver_call, "cudaEventDestroy", None),
        (gpu.driver_call, "cudaGetLastError"),
        (gpu.driver_call, "cudaGetLastError"),
    ):
        fails(700, why, call, *given)


def test_free_twice_in_the_middle_and_of_the_host(gpu):
    place = gpu.malloc(1000)
    gpu.free(None)
    fails(1, "which is not the start of an allocation", gpu.free, place + 256)
    fails(1, "which is not the start of an allocation", gpu.free, place + 4096)
    fails(1, "which is no device pointer", gpu.free, gpu.host_buffer(8))
    gpu.free(place)
    fails(1, "which is freed already", gpu.free, place)
    assert gpu.last_errors() == (1, 1)
    assert gpu.last_errors() == (0, 0), "taken"
    assert works(gpu)


def test_copies_of_a_wrong_kind_or_size(gpu):
    place, host = gpu.malloc(100), gpu.host_buffer(1000)
    for to, source, size, kind in (
        (place, host, 100, TO_HOST),
        (host, place, 100, TO_DEVICE),
        (host, host, 100, TO_DEVICE),
        (place, place, 100, TO_HOST),
        (host, place, 100, ON_DEVICE),
        (place, host, 100, 0),
        (place, host, 101, TO_DEVICE),
        (host, place, 101, TO_HOST),
        (place + 99, host, 2, TO_DEVICE),
        (place + 100, host, 1, TO_DEVICE),
        (place + 200, host, 4, TO_DEVICE),
        (place - 4, host, 4, TO_DEVICE),
        (place, host, 2**64 - 50, TO_DEVICE),
        (place, None, 4, ON_DEVICE),
    ):
        fails(1, f"a copy of {size} bytes, kind {kind}: its", gpu.copy, to, source, size, kind)
    fails(21, "invalid copy direction for memcpy: a copy of kind 5", gpu.copy, place, host, 4, 5)
    gpu.copy(place + 99, host, 1, 4)
    gpu.copy(place + 50, place, 50, ON_DEVICE)
    gpu.copy(place, host, 0, TO_HOST)
    gpu.free(place)
    fails(1, "its target is not in one allocation", gpu.copy, place, host, 4, TO_DEVICE)


def test_out_of_memory_and_addresses_used_once(gpu):
    free, total = gpu.memory()
    assert free == total == 64 << 20
    fails(2, "67108865 bytes asked for, 67108864 of the device's 67108864 are free", gpu.malloc, total + 1)
    fails(2, "out of memory", gpu.malloc, 2**64 - 1)
    places = [gpu.malloc(total // 4) for _ in range(4)]
    fails(2, "1 bytes asked for, 0 of", gpu.malloc, 1)
    for place in places:
        gpu.free(place)
    assert gpu.memory() == (free, total)
    places += [gpu.malloc(total // 4) for _ in range(4)]
    assert len(set(places)) == 8
    assert all(place % 512 == 0 for place in places)
    assert gpu.malloc(0) is None


def test_fresh_memory_is_nan(gpu):
    assert gpu.download(gpu.malloc(64), 64) == b"\xff" * 64


@pytest.mark.parametrize("write", [False, True])
def test_the_host_cannot_touch_device_memory(gpu, write):
    place = gpu.malloc(64)
    assert gpu.touch(gpu.host_buffer(8)) == b"\0"
    with pytest.raises(DiedError) as caught:
        gpu.touch(place, write)
    code, said = caught.value.args
    assert code == -signal.SIGSEGV
    assert f"the host used the device pointer {place:#x}" in said
    assert "cannot be used by the CPU" in said


def test_other_segmentation_faults_are_not_explained(gpu):
    gpu.malloc(64)
    with pytest.raises(DiedError) as caught:
        gpu.touch(8)
    assert caught.value.args == (-signal.SIGSEGV, "")


def test_a_child_forked_before_the_first_call_works(gpu):
    assert gpu.in_child("download_fresh", 4) == (b"\xff" * 4, None)
    assert works(gpu)


def test_a_child_forked_after_the_first_call_does_not(gpu):
    assert works(gpu)
    for name, *given in (("malloc", 4), ("memory",), ("synchronize",), ("launch", SOURCE, "nothing")):
        _, error = gpu.in_child(name, *given)
        assert (error.number, "initialization error: the process was forked" in error.text) == (3, True)
    assert works(gpu), "the parent goes on"


def test_a_module_for_another_gpu_and_an_unknown_one(gpu):
    fails(
        209, "compiled for sm_110, the device is sm_87", gpu.launch, SOURCE, "plain", image=cubin(SOURCE, 110)
    )
    fails(301, "the emulation has no module for the cubin sha256:", gpu.launch, "no module", "k")
    fails(200, "not a cubin", gpu.launch, SOURCE, "plain", image=b"// PTX".ljust(128, b"\0"))
    fails(500, "kernel unheard", gpu.launch, SOURCE, "unheard")
    assert works(gpu)
