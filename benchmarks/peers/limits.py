"""Measure this machine's limits: fp32 and int8 arithmetic peaks and memory bandwidth.

A limit is the best of its samples: anything that slows a sample down (another process, a hypervisor, a lower clock) is
not a property of the machine. The samples are kept as well. A multiply-add counts as two operations. Bandwidth
counts the bytes that the kernel names, as STREAM does (McCalpin, "Memory Bandwidth and Machine Balance in
Current High Performance Computers", 1995), over arrays of at least four times the L3 cache in total; triad uses
non-temporal stores, so that no line is read before it is overwritten.

The kernels are C, compiled for this CPU. All have the signature ``void kernel(void *state, long steps)``. The
arithmetic ones are generated; they keep ``unroll`` independent accumulators in registers, enough to hide an
instruction's latency, and perform one multiply-add on each per step:

    fma_<bytes>_<unroll>   fp32: x = x * m + b, in one instruction if the CPU has FMA, otherwise in two;
                           state: m, b (one vector each), then the accumulators
    dot_<bytes>_<unroll>   int8: x += u8 · s8 in fours (VNNI), s8 · s8 on ARM; state: both operands, then the accumulators
    madd_<bytes>_<unroll>  int8 on x86 without VNNI: operands widened to int16, x += their products in pairs
                           (``vpmaddwd``, ``vpaddd``); state as for ``dot``
    triad, read            a = b + 3 c with non-temporal stores, and the sum of an array; state: a ``Stream``

Without VNNI, ``vpmaddubsw`` multiplies u8 by s8 without widening, but adds pairs in saturating int16. It is exact only
for some weights, so it is not a limit for kernels that must be correct for all weights.
"""

import ctypes
import functools
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kit.native import shared_library
from edgepack.config import host

SAMPLES = 40
SAMPLE_NS = (
    5_000_000  # per arithmetic kernel: long compared to a clock's resolution, short compared to a time slice
)
TRY_NS = 1_000_000  # per variant, while choosing
TRIES = 7
PASSES = 10  # samples of a stream kernel
STREAM_BYTES = 512 << 20  # minimum for the three arrays of triad
CANARY_STEPS = 2_000_000  # 24 million vector multiply-adds, 3.2 ms at two per cycle and 3.7 GHz
UNROLLS = (4, 8, 12, 16, 24)
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-shared", "-fPIC", "-Wall", "-Werror", "-Wno-psabi")


@dataclass(frozen=True)
class Operation:
    """A multiply-add instruction on vectors."""

    kind: str  # fma, dot, madd
    needs: str  # LLVM's name of the required feature; empty: none
    bytes: int  # of a vector
    vector: str  # C type
    step: str  # C statement that advances the accumulator {x}
    operands: tuple[type, int, int]  # element type and values of the two: with them, accumulators stay finite


def _fma(needs: str, width: int) -> Operation:
    # x = x / 2 + 1 converges to 2.
    vector = f"float __attribute__((vector_size({width})))"
    return Operation("fma", needs, width, vector, "{x} = {x} * p + q;", (np.float32, 0.5, 1.0))


def _dot(needs: str, width: int, vector: str, call: str) -> Operation:
    return Operation("dot", needs, width, vector, f"{{x}} = {call};", (np.uint8, 3, 1))


def _madd(needs: str, width: int, intrinsics: str) -> Operation:
    # The empty assembly prevents the compiler from moving the loop-invariant product out of the loop.
    product = f"{intrinsics}_add_epi32({{x}}, {intrinsics}_madd_epi16(p, q))"
    step = f'__asm__ volatile("" : "+v"(p)); {{x}} = {product};'
    return Operation("madd", needs, width, f"__m{8 * width}i", step, (np.int16, 3, 1))


_FP32 = (_fma("avx512f", 64), _fma("avx", 32), _fma("", 16))
_INT8 = (  # the first one that a CPU supports is its limit
    _dot("avx512vnni", 64, "__m512i", "_mm512_dpbusd_epi32({x}, p, q)"),
    _dot("avxvnni", 32, "__m256i", "_mm256_dpbusd_avx_epi32({x}, p, q)"),
    _dot("dotprod", 16, "int32x4_t", "vdotq_s32({x}, (int8x16_t)p, (int8x16_t)q)"),
    _madd("avx512bw", 64, "_mm512"),
    _madd("avx2", 32, "_mm256"),
    _madd("sse2", 16, "_mm"),
)

_HEAD = Path(__file__).with_name("limits.c")


class Stream(ctypes.Structure):
    """Arguments of ``triad`` and ``read_all``."""

    _fields_ = (
        ("a", ctypes.c_void_p),
        ("b", ctypes.c_void_p),
        ("c", ctypes.c_void_p),
        ("count", ctypes.c_long),
        ("sum", ctypes.c_double),
    )


@dataclass(frozen=True)
class Variant:
    """An arithmetic kernel."""

    operation: Operation
    unroll: int

    @property
    def name(self) -> str:
        """Name of the C function."""
        return f"{self.operation.kind}_{self.operation.bytes}_{self.unroll}"

    @property
    def macs(self) -> int:
        """Multiply-adds per step: one for each element of an operand."""
        return self.unroll * self.operation.bytes // np.dtype(self.operation.operands[0]).itemsize


def variants(features: set[str]) -> dict[str, tuple[Variant, ...]]:
    """Return the arithmetic kernels for a CPU with these features (LLVM's names), by precision."""

    def first(operations: Sequence[Operation], count: int) -> tuple[Variant, ...]:
        there = [one for one in operations if one.needs in {"", *features}][:count]
        return tuple(Variant(one, unroll) for one in there for unroll in UNROLLS)

    # fp32 in two widths: some CPUs reduce their clock for the widest vectors.
    return {"fp32": first(_FP32, 2), "int8": first(_INT8, 1)}


def source(wanted: Iterable[Variant]) -> str:
    """Return the C file with the stream kernels, these variants and the canary."""
    return _HEAD.read_text() + "".join(_function(v) for v in dict.fromkeys((*wanted, CANARY)))


def _function(variant: Variant) -> str:
    operation = variant.operation
    names = [f"x{i}" for i in range(variant.unroll)]
    loads = "".join(f"    vec {name} = v[{i}];\n" for i, name in enumerate(("p", "q", *names)))
    steps = "".join(f"        {operation.step.format(x=name)}\n" for name in names)
    stores = "".join(f"    v[{i + 2}] = {name};\n" for i, name in enumerate(names))
    return (
        f"\nvoid {variant.name}(void *state, long steps)\n{{\n    typedef {operation.vector} vec;\n"
        f"    vec *v = state;\n{loads}    for (long i = 0; i < steps; i++) {{\n{steps}    }}\n{stores}}}\n"
    )


# The same code on every machine; the compiler splits vectors wider than the CPU's.
CANARY = Variant(_fma("avx", 32), 12)


@functools.cache
def here() -> dict[str, tuple[Variant, ...]]:
    """Return the variants for this machine."""
    features = set(host.describe()["cpu"]["features"])
    return variants(features | ({"sse2"} if platform.machine() == "x86_64" else set()))


@functools.cache
def library() -> ctypes.CDLL:
    """Load the kernels for this machine."""
    return ctypes.CDLL(str(build()))


def build() -> Path:
    """Build the kernels for this machine as a shared library, once per CPU.

    Raises:
        EdgepackError: zig is missing or rejected the code; its output is in ``why``.
    """
    return shared_library(
        "limits", source(chain(*here().values())), FLAGS, made_for=str(host.describe()["cpu"])
    )


def measure(threads: int) -> dict[str, Any]:
    """Measure the limits of this machine for ``threads`` threads, each on its own core; about two seconds per thread.

    ``fp32``, ``int8`` (None on ARM without dot product), ``triad`` and ``read`` (of memory) are as returned by
    ``_limit``.

    Raises:
        ValueError: There are fewer cores.
        EdgepackError: The kernels could not be compiled.
    """
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= threads <= len(cores):
        raise ValueError(f"cannot measure {threads} threads: this process may run on {len(cores)} cores")
    with _team(cores[:threads]) as run:
        return {
            "cpu": host.describe()["cpu"]["name"],
            "threads": threads,
            "fp32": _arithmetic(run, threads, "fp32", "GFLOP/s"),
            "int8": _arithmetic(run, threads, "int8", "GOP/s"),
            **_streams(run, threads),
        }


def _limit(unit: str, kernel: str, samples: Sequence[float]) -> dict[str, Any]:
    """Summarise one limit: the peak, the median, and their variation.

    ``spread`` is the interquartile range as a share of the median.
    """
    low, middle, high = statistics.quantiles(samples, n=4)
    results = {"unit": unit, "kernel": kernel, "samples": tuple(samples), "peak": max(samples)}
    return results | {"median": statistics.median(samples), "spread": (high - low) / middle}


def canary() -> int:
    """Return nanoseconds of a fixed computation on the caller's core: about 3 ms, only in registers.

    Its time depends only on the core's clock and on other processes on the core.
    """
    start, end = _span(CANARY.name, _canary_state().ctypes.data, CANARY_STEPS, ctypes.c_int(0), 1)
    return end - start


@functools.cache
def _canary_state() -> np.ndarray:
    return new_state(CANARY)


def _span(name: str, state: int, steps: int, arrived: ctypes.c_int, threads: int) -> tuple[int, int]:
    """Return start and end of a kernel that begins when ``threads`` threads are ready, in nanoseconds."""
    span = (ctypes.c_int64 * 2)()
    kernels = library()
    where, count = ctypes.c_void_p(state), ctypes.c_long(steps)
    # ctypes releases the GIL during the call.
    kernels.timed(kernels[name], where, count, ctypes.byref(arrived), threads, span)
    return span[0], span[1]


# Runs a kernel on all threads at once, each with its own state: nanoseconds from the first start to the last end.
Run = Callable[[str, Sequence[int], int], int]


@contextmanager
def _team(cores: Sequence[int]) -> Iterator[Run]:
    """Persistent threads, one per core: each waits for the others before it begins."""
    with ThreadPoolExecutor(len(cores)) as pool:

        def run(name: str, states: Sequence[int], steps: int) -> int:
            arrived = ctypes.c_int(0)

            def pinned(core: int, state: int) -> tuple[int, int]:
                os.sched_setaffinity(0, {core})
                return _span(name, state, steps, arrived, len(cores))

            starts, ends = zip(*pool.map(pinned, cores, states), strict=True)
            return max(ends) - min(starts)

        yield run


def _arithmetic(run: Run, threads: int, precision: str, unit: str) -> dict[str, Any] | None:
    """Choose the fastest variant of a precision by short tries, and measure it; None if there is no variant."""

    def rates(variant: Variant, ns: int, count: int) -> list[float]:
        states = [new_state(variant) for _ in range(threads)]
        places = [state.ctypes.data for state in states]
        steps = _steps(run, variant.name, places, ns)
        work = 2 * variant.macs * steps * threads
        return [work / run(variant.name, places, steps) for _ in range(count)]

    if not here()[precision]:
        return None
    best = max(here()[precision], key=lambda variant: max(rates(variant, TRY_NS, TRIES)))
    return _limit(unit, best.name, rates(best, SAMPLE_NS, SAMPLES))


def _steps(run: Run, name: str, places: Sequence[int], ns: int) -> int:
    """Return the number of steps that take about ``ns``."""
    steps = 1000
    while (took := run(name, places, steps)) < ns // 4:
        steps *= 4
    return max(1, steps * ns // took)


def _streams(run: Run, threads: int) -> dict[str, Any]:
    l3_bytes = 1024 * host.describe()["cpu"].get("l3_kib", 0)
    count = max(STREAM_BYTES, 12 * l3_bytes) // (3 * threads) // 512 * 128
    arrays = [[aligned_bytes(4 * count).view(np.float32) for _ in "abc"] for _ in range(threads)]
    for own in arrays:
        for array in own:
            array.fill(1.0)
    states = [Stream(*(array.ctypes.data for array in own), count, 0.0) for own in arrays]
    places = [ctypes.addressof(state) for state in states]
    results = {}
    for name, kernel, names in (("triad", "triad", 3), ("read", "read_all", 1)):
        steps = 3 // names  # passes: equal numbers of bytes for both
        run(kernel, places, 1)
        work = names * 4 * count * threads * steps
        results[name] = _limit("GB/s", kernel, [work / run(kernel, places, steps) for _ in range(PASSES)])
    return results


def new_state(variant: Variant) -> np.ndarray:
    """Return operands and accumulators for an arithmetic kernel, as bytes."""
    vectors = 2 + variant.unroll
    state = aligned_bytes(vectors * variant.operation.bytes)
    element, *values = variant.operation.operands
    state.view(element).reshape(vectors, -1)[:2] = np.reshape(values, (2, 1))
    return state


def aligned_bytes(size: int) -> np.ndarray:
    """Return zeroed bytes aligned to 64 bytes."""
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size]
