"""Barriers that not all threads reach, and results that depend on the order of threads and blocks."""

import struct

import pytest
from cubins import HEAD
from gpu_process import CudaError, GpuProcess, prepare

from edgepack.emulation import EmulatedGpu

THREADS, BLOCKS = 64, 4
COUNT = THREADS * BLOCKS
T, I = "threadIdx.x", "(blockIdx.x * blockDim.x + threadIdx.x)"  # noqa: E741
REVERSED = f"__shared__ int s[{THREADS}]; s[{T}] = a[{I}]; %s b[{I}] = s[{THREADS - 1} - {T}];"

STUCK = {
    "returned": f"if ({T} == 5) return;\n__syncthreads(); b[{T}] = 1;",
    "two_barriers": f"if ({T} < 7)\n__syncthreads();\nelse\n__syncthreads();",
    "loop": f"for (int i = 0; i <= {T} % 2; i++)\n__syncthreads();",
    "half_a_warp": f"if ({T} < 16)\nb[{T}] = __shfl_xor_sync(0xffffffff, a[{T}], 1);\n__syncthreads();",
    "lane_returned": f"if ({T} == 3) return; if ({T} < 3)\n__syncwarp(0x3f); else __syncthreads();",
    "not_in_mask": f"if ({T} < 32) b[{T}] = __shfl_down_sync(0x7fffffff, a[{T}], 1);",
    "two_masks": f"int v; if ({T} < 16) v = __ballot_sync(0xffff, 1); else if ({T} < 32)\nv = __ballot_sync(0xffffffff, 1);\n__syncthreads();",
    "vote_and_barrier": f"if ({T} == 40)\n__syncthreads();\nelse b[{T}] = __any_sync(0xffffffff, a[{T}]);",
}
GOOD = {
    "with_barrier": REVERSED % "__syncthreads();",
    "counted": f"atomicAdd(&b[{T} % 3], a[{I}]); atomicMax(&b[4], {I});",
    "same_value": f"b[0] = 7; b[{T} + 1] = {T};",
    "exchanged": f"b[{I}] = __shfl_xor_sync(0xffffffff, a[{I}], 9) + __reduce_add_sync(0xffffffff, 1);",
    "tree": f"__shared__ int s[{THREADS}]; s[{T}] = a[{I}]; for (int n = {THREADS // 2}; n; n /= 2) {{ __syncthreads();"
    f" if ({T} < n) s[{T}] += s[{T} + n]; }} if ({T} == 0) b[blockIdx.x] = s[0];",
}
# Each with a shared or global memory that two threads use without a barrier in between.
RACES = {
    "without_barrier": REVERSED % "",
    "another_barrier": REVERSED % "" + f" __syncthreads(); b[{I}] += s[{T}];",
    "overwritten": (REVERSED % "__syncthreads();") + f" s[{T}] = -1; __syncthreads(); b[{I}] += s[{T}];",
    "last_writer": f"b[0] = {T};",
    "last_block": f"if ({T} == 0) b[0] = blockIdx.x;",
    "between_blocks": f"int n = ({I} + {THREADS}) % {COUNT}; b[{I}] = a[{I}]; c[{I}] = b[n];",
    "not_atomic": "c[0] = c[0] * 3 + blockIdx.x;",
    "in_a_warp": f"__shared__ int s[{THREADS}]; s[{T}] = {T}; int v = s[{T} ^ 1]; __syncwarp(); b[{I}] = v;",
    "tickets": f"b[{I}] = atomicAdd(&c[0], 1);",
}
SOURCE = "\n".join(
    f"{HEAD}{name}(int* a, int* b, int* c) {{\n{body} }}" for name, body in {**STUCK, **GOOD, **RACES}.items()
)
NUMBERS = struct.pack(f"{COUNT}i", *(i * i - 3 * i for i in range(COUNT)))
ORDERS = ("reverse", "random:1", "random:2", "random:18446744073709551615")


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    prepare(folder, SOURCE)
    return folder


def play(board, kernel, order="forward", source=SOURCE, **sizes):
    """Run a kernel and return its two results, or the error of the device."""
    EmulatedGpu("test", "8.7", 64, 1, order=order).write(board)
    with GpuProcess(board) as gpu:
        a, b, c = gpu.upload(NUMBERS), gpu.upload(bytes(4 * COUNT)), gpu.upload(bytes(4 * COUNT))
        gpu.launch(source, kernel, a, b, c, **{"grid": (BLOCKS,), "block": (THREADS,), **sizes})
        try:
            return gpu.download(b, 4 * COUNT), gpu.download(c, 4 * COUNT)
        except CudaError as error:
            return error


def line(kernel, skip):
    """The line of the source that is ``skip`` lines after a kernel's head."""
    return SOURCE[: SOURCE.index(f"{HEAD}{kernel}(")].count("\n") + 1 + skip


@pytest.mark.parametrize(
    ("kernel", "thread", "why"),
    [
        (
            "returned",
            0,
            ("__syncthreads() in line {2} is not reached by all threads: thread (5,0,0) has returned",),
        ),
        (
            "two_barriers",
            0,
            (
                "__syncthreads() in line {2} is not reached by all threads: thread (",
                ",0,0) waits at __syncthreads() in line {4}",
            ),
        ),
        ("loop", 1, ("__syncthreads() in line {2}", "thread (", "has returned")),
        (
            "half_a_warp",
            0,
            (
                "a warp's barrier, vote or shuffle in line {2} is not reached by all threads: thread (",
                ",0,0) waits at __syncthreads() in line {3}",
            ),
        ),
        (
            "lane_returned",
            0,
            ("a warp's barrier, vote or shuffle in line {2}", "waits at __syncthreads() in line {2}"),
        ),
        (
            "not_in_mask",
            31,
            ("a warp operation in line {1} has the mask 0x7fffffff, without the thread that calls it",),
        ),
        (
            "two_masks",
            0,
            ("__syncthreads() in line {3}", "waits at a warp's barrier, vote or shuffle in line {2}"),
        ),
        (
            "vote_and_barrier",
            32,
            (
                "a warp's barrier, vote or shuffle in line {3}",
                "thread (40,0,0) waits at __syncthreads() in line {2}",
            ),
        ),
    ],
)
def test_a_barrier_that_not_all_threads_reach(board, kernel, thread, why):
    error = play(board, kernel, grid=(1,))
    assert isinstance(error, CudaError)
    assert error.number == 719
    assert (
        f"unspecified launch failure: kernel {kernel}, block (0,0,0), thread ({thread},0,0): " in error.text
    )
    for part in why:
        assert part.format(*(line(kernel, skip) for skip in range(5))) in error.text


@pytest.mark.parametrize("kernel", GOOD)
def test_a_correct_kernel_passes_in_every_order(board, kernel):
    forward = play(board, kernel)
    assert isinstance(forward, tuple)
    for order in ORDERS:
        assert play(board, kernel, order) == forward, order


@pytest.mark.parametrize("kernel", RACES)
@pytest.mark.parametrize("order", ORDERS[:2])
def test_a_race_is_found_and_named(board, kernel, order):
    error = play(board, kernel, order)
    assert isinstance(error, CudaError), "no race found"
    assert error.number == 719
    assert f"unspecified launch failure: kernel {kernel} has a race: byte " in error.text
    assert f"depends on the order of threads and blocks ({order} and forward)" in error.text


@pytest.mark.parametrize("kernel", ["without_barrier", "between_blocks", "tickets"])
def test_a_seed_gives_the_same_error_each_time(board, kernel):
    first, again = (str(play(board, kernel, "random:3")) for _ in range(2))
    assert first == again
    assert "random:3" in first


def test_shared_memory_is_garbage_in_each_block(board):
    source = f"{HEAD}k(float* a, float* b, float* c) {{ __shared__ float s[{THREADS}]; b[{I}] = s[{T}]; s[{T}] = 1; }}"
    dynamic = source.replace("__shared__ float s[64]", "extern __shared__ float s[]")
    prepare(board, source, dynamic)
    for each, size in ((source, 0), (dynamic, 4 * THREADS)):
        got, _ = play(board, "k", source=each, grid=(BLOCKS,), dynamic=size)
        assert all(value != value for value in struct.unpack(f"{COUNT}f", got)), "not NaN"  # noqa: PLR0124
