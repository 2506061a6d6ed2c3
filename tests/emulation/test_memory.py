"""What kernels may read and write on the emulated GPU: every fault names kernel, block, thread and memory."""

import os
import struct

import pytest
from cubins import HEAD
from gpu_process import CudaError, DiedError, GpuProcess, prepare
from hypothesis import given, settings
from hypothesis import strategies as st

THIRD = "threadIdx.x == 3 && blockIdx.y == 2"
# Kernel, body. `a` is an allocation of 64 bytes, `n` another with numbers, so that nothing is known when they are compiled.
BODIES = {
    "past": f"if ({THIRD}) a[n[0] + 16] = 1;",
    "before": f"if ({THIRD}) a[n[0] - 1] = 1;",
    "across": f"if ({THIRD}) *(float4*)(a + n[0] + 16) = *(float4*)a;",
    "read": f"if ({THIRD}) a[0] = a[n[0] + 1000];",
    "far": f"if ({THIRD}) a[0] = a[n[0] + (1ll << 31)];",
    "null": f"if ({THIRD}) a[0] = ((float*)(long long)n[0])[1];",
    "host": f"if ({THIRD}) a[0] = **(float**)(n + 2);",
    "atomic": f"if ({THIRD}) atomicAdd((int*)a + 16 + n[0], 1);",
    "shared": f"__shared__ float s[16]; s[threadIdx.x] = 1; if ({THIRD}) a[0] = s[n[0] + 16];",
    "gap": "__shared__ float s[16]; __shared__ float t[16]; s[threadIdx.x] = t[threadIdx.x] = 1;"
    f"float* p = s; float *q = t; if ({THIRD}) a[0] = p[n[0] + 17] + q[0];",
    "gap_before": "__shared__ float s[16]; __shared__ float t[16]; s[threadIdx.x] = t[threadIdx.x] = 1;"
    f"float* p = s; float *q = t; if ({THIRD}) a[0] = p[0] + q[n[0] - 2];",
    "dynamic": f"extern __shared__ float s[]; s[threadIdx.x] = 1; if ({THIRD}) s[n[0] + 16] = 1; a[0] = s[0];",
    "array": f"float l[16]; for (int i = 0; i < 16; i++) l[i] = a[i];\nif ({THIRD}) a[0] = l[n[0] + 16];",
    "minus": f"float l[16]; for (int i = 0; i < 16; i++) l[i] = a[i];\nif ({THIRD}) a[0] = l[n[0] - 1];",
    "vector": "float l[16]; for (int i = 0; i < 16; i++) l[i] = a[i];\n"
    f"if ({THIRD}) *(float4*)a = *(float4*)((float*)l + n[0] + 16);",
    "table": f"const int t[4] = {{1, 2, 3, 4}}; if ({THIRD}) a[0] = t[n[0] + 4];",
    "stack": f"volatile float l[140000]; if ({THIRD}) l[n[0]] = 1;",
    "stack_waits": f"volatile float l[140000]; __syncthreads(); if ({THIRD}) l[n[0]] = 1;",
    "divide": f"if ({THIRD}) a[0] = 7 / n[0];",
    "modulo": f"if ({THIRD}) a[0] = 7u % (unsigned)n[0];",
    "overflow": f"if ({THIRD}) a[0] = (n[0] - 2147483647 - 1) / (n[0] - 1);",
}
GOOD = {
    "edges": "a[15] = a[n[0]]; *(float4*)(a + 12) = *(float4*)a; ((char*)a)[63] = 0;",
    "alias": "((float*)c)[0] = 1; a[0] = c[0] + 1;",
    "constants": "static const __device__ float t[4] = {5, 6, 7, 8}; a[0] = t[n[0] + 3];",
    "deep": "volatile float l[100000]; l[n[0]] = 1; __syncthreads(); a[0] = l[n[0]];",
}
SOURCE = "\n".join(
    f"{HEAD}{name}(float* a, int* n) {{ {body} }}" for name, body in BODIES.items()
) + "\n".join(
    f"{HEAD}{name}(float* __restrict__ a, int* n, const float* __restrict__ c) {{ {body} }}"
    for name, body in GOOD.items()
)
ACCESS = f"""{HEAD}load(char* at, char* out, int size, long long offset) {{ at += offset;
  if (size == 1) *out = *at; else if (size == 2) *(short*)out = *(short*)at; else if (size == 4) *(int*)out = *(int*)at;
  else if (size == 8) *(int2*)out = *(int2*)at; else *(int4*)out = *(int4*)at; }}
{HEAD}store(char* at, char* out, int size, long long offset) {{ at += offset;
  if (size == 1) *at = *out; else if (size == 2) *(short*)at = *(short*)out; else if (size == 4) *(int*)at = *(int*)out;
  else if (size == 8) *(int2*)at = *(int2*)out; else *(int4*)at = *(int4*)out; }}"""


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    prepare(folder, SOURCE, ACCESS)
    return folder


@pytest.fixture
def gpu(board):
    with GpuProcess(board) as process:
        yield process


def fault(gpu, kernel, *places, **sizes):
    gpu.launch(SOURCE, kernel, *places, **{"grid": (1, 3), "block": (8,), **sizes})
    with pytest.raises(CudaError) as caught:
        gpu.synchronize()
    return caught.value


@pytest.mark.parametrize(
    ("kernel", "number", "why"),
    [
        ("past", 700, "a write of 4 bytes at offset 64 of an allocation of 64 bytes"),
        ("before", 700, "a write of 4 bytes 4 bytes before an allocation of 64 bytes"),
        ("across", 700, "a write of 16 bytes at offset 64 of an allocation of 64 bytes"),
        ("read", 700, "a read of 4 bytes at offset 2976 of an allocation of 16 bytes"),
        ("far", 700, "a read of 4 bytes at an address that was never allocated"),
        ("null", 700, "a read of 4 bytes at a null pointer"),
        ("host", 700, "a read of 4 bytes at a null pointer"),
        ("atomic", 700, "a read of 4 bytes at offset 64 of an allocation of 64 bytes"),
        ("shared", 700, "index 16 of an array of type 'float[16]' in line 9"),
        ("gap", 700, "a read of 4 bytes at offset 68 of a shared array of 64 bytes"),
        ("gap_before", 700, "a read of 4 bytes at offset -8 of a shared array of 64 bytes"),
        ("dynamic", 700, "a write of 4 bytes at offset 64 of a dynamic shared array of 64 bytes"),
        ("array", 700, "index 16 of an array of type 'float[16]' in line"),
        ("minus", 700, "index -1 of an array of type 'float[16]' in line"),
        ("vector", 700, "an access beyond a local array"),
        ("table", 700, "index 4 of an array of type 'const int[4]' in line"),
        ("divide", 719, "a division of integers by zero in line"),
        ("modulo", 719, "a division of integers by zero in line"),
    ],
)
def test_a_fault_names_kernel_block_thread_and_memory(gpu, kernel, number, why):
    a = gpu.upload(bytes(64))
    n = gpu.upload(bytes(16))
    error = fault(gpu, kernel, a, n, dynamic=64 if kernel == "dynamic" else 0)
    assert error.number == number
    assert f"kernel {kernel}, block (0,2,0), thread (3,0,0): " in error.text
    assert why in error.text


@pytest.mark.parametrize("kernel", ["stack", "stack_waits"])
def test_a_full_stack(gpu, kernel):
    error = fault(gpu, kernel, gpu.malloc(64), gpu.upload(bytes(16)))
    assert error.number == 719
    assert f"kernel {kernel}, block (0," in error.text
    assert "it needs more than 512 KiB of stack" in error.text


@pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="only x86 traps; elsewhere the result is the least integer"
)
def test_a_quotient_that_does_not_fit(gpu):
    error = fault(gpu, "overflow", gpu.malloc(64), gpu.upload(bytes(16)))
    assert error.number == 719
    assert "or of the least integer by -1" in error.text


def test_a_freed_allocation(gpu):
    a, n = gpu.malloc(64), gpu.upload(bytes(16))
    gpu.free(a)
    gpu.malloc(64)
    error = fault(gpu, "past", a, n)
    assert (error.number, "of an allocation of 64 bytes that was freed" in error.text) == (700, True)


def test_memory_of_the_host_and_pinned_memory(gpu):
    a, n = gpu.malloc(64), gpu.upload(bytes(16))
    pinned = gpu.pinned(64)
    gpu.launch(SOURCE, "edges", pinned, n, a)
    gpu.synchronize()
    error = fault(gpu, "past", gpu.host_buffer(64), n)
    assert (error.number, "memory of the host, which the GPU cannot use" in error.text) == (700, True)


@pytest.mark.parametrize("pointer", ["host", "device"])
def test_a_pointer_that_was_read_from_memory(gpu, pointer):
    a = gpu.malloc(64)
    inside = gpu.host_buffer(8) if pointer == "host" else a
    error = fault(gpu, "host", a, gpu.upload(bytes(8) + struct.pack("<Q", inside)))
    assert error.number == 700
    assert (
        "memory of the host" if pointer == "host" else "a device pointer that was read from memory"
    ) in error.text


def test_good_kernels(gpu):
    a, n = gpu.upload(struct.pack("16f", *range(16))), gpu.upload(bytes(16))
    results = []
    for kernel in GOOD:
        gpu.launch(SOURCE, kernel, a, n, a)
        results.append(struct.unpack("f", gpu.download(a, 4))[0])
    assert results == [0, 2, 8, 1]


def test_an_access_at_the_wrong_size_of_its_address(gpu):
    a, n = gpu.malloc(64), gpu.malloc(64)
    gpu.launch(ACCESS, "load", a, n, 16, 8)
    with pytest.raises(CudaError) as caught:
        gpu.synchronize()
    assert caught.value.number == 716
    assert (
        "misaligned address: kernel load, block (0,0,0), thread (0,0,0): a read of 16 bytes"
        in caught.value.text
    )


SIZES = st.integers(1, 3000)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(SIZES, min_size=1, max_size=6),
    freed=st.sets(st.integers(0, 5)),
    accesses=st.lists(
        st.tuples(
            st.integers(0, 5), st.sampled_from([1, 2, 4, 8, 16]), st.integers(-700, 4000), st.booleans()
        ),
        min_size=1,
        max_size=12,
    ),
)
def test_accesses_follow_a_model_of_memory(board, sizes, freed, accesses):
    with GpuProcess(board) as gpu:
        model = [(gpu.malloc(size), size) for size in sizes]
        scratch = gpu.malloc(16)
        alive = [each for i, each in enumerate(model) if i not in freed]
        for i in freed & set(range(len(model))):
            gpu.free(model[i][0])
        assert gpu.memory()[1] - gpu.memory()[0] == 16 + sum(size for _, size in alive)
        alive.append((scratch, 16))
        for which, size, offset, write in accesses:
            base = model[which % len(model)][0]
            at = base + offset
            inside = any(start <= at and at + size <= start + length for start, length in alive)
            expected = 716 if at % size else 0 if inside else 700
            gpu.launch(ACCESS, "store" if write else "load", base, scratch, size, offset)
            try:
                gpu.synchronize()
                number = 0
            except CudaError as error:
                number = error.number
            assert number == expected, (which, size, offset, write)
            if number:
                return  # the device is lost


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(SIZES, min_size=1, max_size=4),
    accesses=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 4000), st.integers(-1200, 4000), st.booleans()),
        max_size=40,
    ),
)
def test_copies_follow_a_model_of_memory(board, sizes, accesses):
    with GpuProcess(board) as gpu:
        model = [(gpu.malloc(size), bytearray(b"\xff" * size)) for size in sizes]
        for step, (which, size, offset, write) in enumerate(accesses):
            at = model[which % len(model)][0] + offset
            hit = [
                (at - start, data) for start, data in model if start <= at and at + size <= start + len(data)
            ]
            allowed = bool(hit) or size == 0
            try:
                if write:
                    gpu.write(at, bytes([step]) * size)
                else:
                    got = gpu.download(at, size)
                number = 0
            except CudaError as error:
                number = error.number
            assert number == (0 if allowed else 1)
            if number:
                continue
            if size and write:
                hit[0][1][hit[0][0] : hit[0][0] + size] = bytes([step]) * size
            elif size:
                assert got == hit[0][1][hit[0][0] : hit[0][0] + size]


def test_the_process_survives_a_fault(gpu):
    fault(gpu, "past", gpu.malloc(64), gpu.upload(bytes(16)))
    try:
        assert gpu.last_errors()[0] == 700
    except DiedError as died:
        pytest.fail(str(died))
