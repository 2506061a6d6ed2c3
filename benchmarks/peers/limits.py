"""This machine's own limits, measured: fp32 and int8 arithmetic peaks and memory bandwidth.

A limit is the best of its samples: what slows a sample down (another process, a hypervisor, a lower clock) is
no property of the machine. The samples stay beside it. A multiply-add counts as two operations. Bandwidth
counts the bytes that the kernel names, as STREAM does (McCalpin, "Memory Bandwidth and Machine Balance in
Current High Performance Computers", 1995), over arrays of at least four times the L3 cache together; triad's stores
go past the caches, so that no line is read only to be overwritten.

The kernels are C, compiled for this very CPU. All have one signature, ``void kernel(void *state, long steps)``. The
arithmetic ones are generated; they keep ``unroll`` independent accumulators in registers, enough to hide an
instruction's latency, and do one multiply-add on each in every step:

    fma_<bytes>_<unroll>   fp32: x = x * m + b; state: m, b (one vector each), then the accumulators
    dot_<bytes>_<unroll>   int8: x += u8 · s8 in fours (VNNI), s8 · s8 on ARM; state: both operands, then the accumulators
    triad, read            a = b + 3 c with stores past the caches, and the sum of an array; state: a ``Stream``
"""

import ctypes
import functools
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kit.native import shared_library
from edgepack.config import host

SAMPLES = 40
SAMPLE_NS = 5_000_000  # of an arithmetic kernel: long to a clock's resolution, short to a time slice
TRY_NS = 1_000_000  # of each variant, while choosing
TRIES = 7
PASSES = 10  # samples of a stream kernel
STREAM_BYTES = 512 << 20  # three arrays of triad, at least
CANARY_STEPS = 2_000_000  # 24 million vector multiply-adds, 3.2 ms at two a cycle and 3.7 GHz
UNROLLS = (4, 8, 12, 16, 24)
CANARY = (32, 12)  # bytes, unroll: the same code on every machine, split where vectors are narrower
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-shared", "-fPIC", "-Wall", "-Werror", "-Wno-psabi")

# One instruction of each ISA that multiplies and adds int8 in groups of four: width, type, expression.
_DOTS = {
    "avx512vnni": (64, "__m512i", "_mm512_dpbusd_epi32({x}, u, s)"),
    "avxvnni": (32, "__m256i", "_mm256_dpbusd_avx_epi32({x}, u, s)"),
    "dotprod": (16, "int32x4_t", "vdotq_s32({x}, (int8x16_t)u, (int8x16_t)s)"),
}

_HEAD = Path(__file__).with_name("limits.c")


class Stream(ctypes.Structure):
    """What ``triad`` and ``read_all`` work on."""

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

    kind: str  # fma, dot
    bytes: int  # of a vector
    unroll: int

    @property
    def name(self) -> str:
        """The function's."""
        return f"{self.kind}_{self.bytes}_{self.unroll}"

    @property
    def macs(self) -> int:
        """Multiply-adds a step: of fp32 by the lane, of int8 by the byte."""
        return self.unroll * (self.bytes // 4 if self.kind == "fma" else self.bytes)


def variants(features: set[str], vector_bits: int) -> tuple[Variant, ...]:
    """The arithmetic kernels for a CPU with these features (LLVM's names)."""
    widths = [width for width in (64, 32, 16) if width * 8 <= vector_bits] or [16]
    dots = [width for feature, (width, _, _) in _DOTS.items() if feature in features]
    kinds = [("fma", width) for width in widths[:2]] + [("dot", width) for width in dots]
    return tuple(Variant(kind, width, unroll) for kind, width in kinds for unroll in UNROLLS)


def source(wanted: tuple[Variant, ...]) -> str:
    """The C file with the stream kernels, these variants and the canary."""
    canary = Variant("fma", *CANARY)
    return _HEAD.read_text() + "".join(_function(v) for v in dict.fromkeys((*wanted, canary)))


def _function(variant: Variant) -> str:
    if variant.kind == "fma":
        kind = f"float __attribute__((vector_size({variant.bytes})))"
        operands, step = ("m", "b"), "{x} * m + b"
    else:
        _, kind, step = next(dot for dot in _DOTS.values() if dot[0] == variant.bytes)
        operands = ("u", "s")
    names = [f"x{i}" for i in range(variant.unroll)]
    loads = "".join(f"    vec {name} = v[{i}];\n" for i, name in enumerate((*operands, *names)))
    steps = "".join(f"        {name} = {step.format(x=name)};\n" for name in names)
    stores = "".join(f"    v[{i + 2}] = {name};\n" for i, name in enumerate(names))
    return (
        f"\nvoid {variant.name}(void *state, long steps)\n{{\n    typedef {kind} vec;\n    vec *v = state;\n{loads}"
        f"    for (long i = 0; i < steps; i++) {{\n{steps}    }}\n{stores}}}\n"
    )


@functools.cache
def here() -> tuple[Variant, ...]:
    """The variants for this machine."""
    cpu = host.describe()["cpu"]
    return variants(set(cpu["features"]), cpu["vector_bits"])


@functools.cache
def library() -> ctypes.CDLL:
    """The kernels of this machine, loaded."""
    return ctypes.CDLL(str(build()))


def build() -> Path:
    """The kernels of this machine as a shared library; compiled once for each CPU and kept.

    Raises:
        EdgepackError: zig is missing or refused the code; its words are in ``why``.
    """
    return shared_library("limits", source(here()), FLAGS, made_for=str(host.describe()["cpu"]))


def measure(threads: int) -> dict[str, Any]:
    """The limits of this machine for ``threads`` threads, each on a core of its own. About two seconds a thread.

    ``fp32`` (fused multiply-add), ``int8`` (dot-product instruction; None where the CPU has none), ``triad`` and
    ``read`` (of memory) are each as ``_limit`` has it.

    Raises:
        ValueError: There are fewer cores to run on.
        EdgepackError: The kernels could not be compiled.
    """
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= threads <= len(cores):
        raise ValueError(f"cannot measure {threads} threads: this process may run on {len(cores)} cores")
    with _team(cores[:threads]) as run:
        return {
            "cpu": host.describe()["cpu"]["name"],
            "threads": threads,
            "fp32": _arithmetic(run, threads, "fma", "GFLOP/s"),
            "int8": _arithmetic(run, threads, "dot", "GOP/s"),
            **_streams(run, threads),
        }


def _limit(unit: str, kernel: str, samples: Sequence[float]) -> dict[str, Any]:
    """One limit: what the machine can do, what it did most of the time, and how still it was.

    ``spread`` is the distance between the quartiles as a share of the median.
    """
    low, middle, high = statistics.quantiles(samples, n=4)
    found = {"unit": unit, "kernel": kernel, "samples": tuple(samples), "peak": max(samples)}
    return found | {"median": statistics.median(samples), "spread": (high - low) / middle}


def canary() -> int:
    """Nanoseconds of a fixed piece of arithmetic on the caller's core: about 3 ms, in registers alone.

    Its time moves with the core's clock and with whoever else runs on the core, and with nothing else.
    """
    variant, state = _canary_state()
    start, end = _span(variant.name, state.ctypes.data, CANARY_STEPS, ctypes.c_int(0), 1)
    return end - start


@functools.cache
def _canary_state() -> tuple[Variant, np.ndarray]:
    variant = Variant("fma", *CANARY)
    return variant, new_state(variant)


def _span(name: str, state: int, steps: int, arrived: ctypes.c_int, threads: int) -> tuple[int, int]:
    """Start and end of a kernel that begins once ``threads`` threads have arrived, in nanoseconds."""
    span = (ctypes.c_int64 * 2)()
    kernels = library()
    where, count = ctypes.c_void_p(state), ctypes.c_long(steps)
    # ctypes lets go of the interpreter's lock during the call.
    kernels.timed(kernels[name], where, count, ctypes.byref(arrived), threads, span)
    return span[0], span[1]


# A kernel on every thread at once, each with its own state: the nanoseconds from the first start to the last end.
Run = Callable[[str, Sequence[int], int], int]


@contextmanager
def _team(cores: Sequence[int]) -> Iterator[Run]:
    """Threads that stay, one for each core: each waits for the others before it begins."""
    with ThreadPoolExecutor(len(cores)) as pool:

        def run(name: str, states: Sequence[int], steps: int) -> int:
            arrived = ctypes.c_int(0)

            def pinned(core: int, state: int) -> tuple[int, int]:
                os.sched_setaffinity(0, {core})
                return _span(name, state, steps, arrived, len(cores))

            starts, ends = zip(*pool.map(pinned, cores, states), strict=True)
            return max(ends) - min(starts)

        yield run


def _arithmetic(run: Run, threads: int, kind: str, unit: str) -> dict[str, Any] | None:
    """The fastest variant of a kind, chosen by short tries, then measured; None where there is no variant."""

    def rates(variant: Variant, ns: int, count: int) -> list[float]:
        states = [new_state(variant) for _ in range(threads)]
        places = [state.ctypes.data for state in states]
        steps = _steps(run, variant.name, places, ns)
        work = 2 * variant.macs * steps * threads
        return [work / run(variant.name, places, steps) for _ in range(count)]

    candidates = [variant for variant in here() if variant.kind == kind]
    if not candidates:
        return None
    best = max(candidates, key=lambda variant: max(rates(variant, TRY_NS, TRIES)))
    return _limit(unit, best.name, rates(best, SAMPLE_NS, SAMPLES))


def _steps(run: Run, name: str, places: Sequence[int], ns: int) -> int:
    """So many steps take about ``ns``."""
    steps = 1000
    while (took := run(name, places, steps)) < ns // 4:
        steps *= 4
    return max(1, steps * ns // took)


def _streams(run: Run, threads: int) -> dict[str, Any]:
    l3_bytes = 1024 * host.describe()["cpu"].get("l3_kib", 0)
    count = max(STREAM_BYTES, 12 * l3_bytes) // (3 * threads) // 512 * 128
    arrays = [[aligned(4 * count).view(np.float32) for _ in "abc"] for _ in range(threads)]
    for own in arrays:
        for array in own:
            array.fill(1.0)
    states = [Stream(*(array.ctypes.data for array in own), count, 0.0) for own in arrays]
    places = [ctypes.addressof(state) for state in states]
    found = {}
    for name, kernel, names in (("triad", "triad", 3), ("read", "read_all", 1)):
        steps = 3 // names  # passes: as many bytes for both
        run(kernel, places, 1)
        work = names * 4 * count * threads * steps
        found[name] = _limit("GB/s", kernel, [work / run(kernel, places, steps) for _ in range(PASSES)])
    return found


def new_state(variant: Variant) -> np.ndarray:
    """Operands and accumulators for an arithmetic kernel, as bytes; the values stay finite for ever."""
    vectors = 2 + variant.unroll
    state = aligned(vectors * variant.bytes)
    fma = variant.kind == "fma"
    operands = state.view(np.float32 if fma else np.uint8).reshape(vectors, -1)
    operands[0], operands[1] = (0.5, 1.0) if fma else (3, 1)  # x = x / 2 + 1 goes to 2
    return state


def aligned(size: int) -> np.ndarray:
    """Zeroed bytes that start at a multiple of 64."""
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size]
