"""This machine's own limits, measured: fp32 and int8 arithmetic peaks and memory bandwidth.

    python -m benchmarks.peers.limits [--threads 1 2] [--json]

A limit is the best of its samples: what slows a sample down (another process, a hypervisor, a lower clock) is
no property of the machine. The samples stay beside it. A multiply-add counts as two operations. Bandwidth
counts the bytes that the kernel names, as STREAM does (McCalpin, "Memory Bandwidth and Machine Balance in
Current High Performance Computers", 1995), over arrays of at least four times the L3 cache together; triad's stores
go past the caches, so that no line is read only to be overwritten.
"""

import ctypes
import functools
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.kit.command import finish, parser
from benchmarks.peers import limits_kernels as kernels
from benchmarks.peers.limits_kernels import Stream, Variant
from edgepack.config import host

SAMPLES = 40
SAMPLE_NS = (
    5_000_000  # of an arithmetic kernel: long against a clock's resolution, short against a time slice
)
TRY_NS = 1_000_000  # of each variant, while choosing
TRIES = 7
PASSES = 10  # samples of a stream kernel
STREAM_BYTES = 512 << 20  # three arrays of triad, at least
CANARY_STEPS = 2_000_000  # 24 million vector multiply-adds, 3.2 ms at two a cycle and 3.7 GHz


@dataclass(frozen=True)
class Limit:
    """One limit and how it came about."""

    unit: str
    kernel: str
    samples: tuple[float, ...]

    @property
    def peak(self) -> float:
        """The best sample: what the machine can do."""
        return max(self.samples)

    @property
    def median(self) -> float:
        """The middle sample: what it did most of the time."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """Distance between quartiles as a share of the median: how still the machine was."""
        low, middle, high = statistics.quantiles(self.samples, n=4)
        return (high - low) / middle

    def to_json(self) -> dict[str, Any]:
        """With the derived figures."""
        return {**asdict(self), "peak": self.peak, "median": self.median, "spread": self.spread}


@dataclass(frozen=True)
class Limits:
    """What so many threads of this machine, a core each, can do at most."""

    cpu: str
    threads: int
    fp32: Limit  # GFLOP/s, fused multiply-add
    int8: Limit | None  # GOP/s, dot-product instruction; None: the CPU has none
    triad: Limit  # GB/s
    read: Limit  # GB/s

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        parts = {name: getattr(self, name) for name in ("fp32", "int8", "triad", "read")}
        return {
            "cpu": self.cpu,
            "threads": self.threads,
            **{name: limit.to_json() if limit else None for name, limit in parts.items()},
        }


def measure(threads: int) -> Limits:
    """The limits of this machine for ``threads`` threads, each on a core of its own. About two seconds a thread.

    Raises:
        ValueError: There are fewer cores to run on.
        EdgepackError: The kernels could not be compiled.
    """
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= threads <= len(cores):
        raise ValueError(f"cannot measure {threads} threads: this process may run on {len(cores)} cores")
    with _team(cores[:threads]) as run:
        arithmetic = {kind: _arithmetic(run, threads, kind) for kind in ("fma", "dot")}
        triad, read = _streams(run, threads)
    return Limits(host.describe()["cpu"]["name"], threads, arithmetic["fma"], arithmetic["dot"], triad, read)


def canary() -> int:
    """Nanoseconds of a fixed piece of arithmetic on the caller's core: about 3 ms, in registers alone.

    Its time moves with the core's clock and with whoever else runs on the core, and with nothing else.
    """
    variant, state = _canary_state()
    span = (ctypes.c_int64 * 2)()
    arrived = ctypes.c_int(0)
    library = kernels.library()
    library.timed(
        library[variant.name],
        ctypes.c_void_p(state.ctypes.data),
        ctypes.c_long(CANARY_STEPS),
        ctypes.byref(arrived),
        1,
        span,
    )
    return span[1] - span[0]


@functools.cache
def _canary_state() -> tuple[Variant, np.ndarray]:
    variant = Variant("fma", *kernels.CANARY)
    return variant, new_state(variant)


# A kernel on every thread at once, each with its own state: the nanoseconds from the first start to the last end.
Run = Callable[[str, Sequence[int], int], int]


@contextmanager
def _team(cores: Sequence[int]) -> Iterator[Run]:
    """Threads that stay, each pinned to a core."""
    library = kernels.library()
    pools = [ThreadPoolExecutor(1, initializer=os.sched_setaffinity, initargs=(0, {core})) for core in cores]

    def run(name: str, states: Sequence[int], steps: int) -> int:
        arrived = ctypes.c_int(0)
        spans = [(ctypes.c_int64 * 2)() for _ in cores]
        started = [
            pool.submit(
                library.timed,  # ctypes lets go of the interpreter's lock during the call
                library[name],
                ctypes.c_void_p(state),
                ctypes.c_long(steps),
                ctypes.byref(arrived),
                len(cores),
                span,
            )
            for pool, state, span in zip(pools, states, spans, strict=True)
        ]
        for future in started:
            future.result()
        return max(span[1] for span in spans) - min(span[0] for span in spans)

    try:
        yield run
    finally:
        for pool in pools:
            pool.shutdown()


def _arithmetic(run: Run, threads: int, kind: str) -> Limit | None:
    """The fastest variant of a kind, chosen by short tries, then measured."""
    candidates = [variant for variant in kernels.here() if variant.kind == kind]
    if not candidates:
        return None
    tried = {}
    for variant in candidates:
        states = [new_state(variant) for _ in range(threads)]
        places = [state.ctypes.data for state in states]
        steps = _steps(run, variant.name, places, TRY_NS)
        tried[variant] = min(run(variant.name, places, steps) for _ in range(TRIES)) / (steps * variant.macs)
    best = min(tried, key=lambda variant: tried[variant])
    states = [new_state(best) for _ in range(threads)]
    places = [state.ctypes.data for state in states]
    steps = _steps(run, best.name, places, SAMPLE_NS)
    work = 2 * best.macs * steps * threads
    samples = tuple(work / run(best.name, places, steps) for _ in range(SAMPLES))
    return Limit("GFLOP/s" if kind == "fma" else "GOP/s", best.name, samples)


def _steps(run: Run, name: str, places: Sequence[int], ns: int) -> int:
    """So many steps take about ``ns``."""
    steps = 1000
    while (took := run(name, places, steps)) < ns // 4:
        steps *= 4
    return max(1, steps * ns // took)


def _streams(run: Run, threads: int) -> tuple[Limit, Limit]:
    l3_bytes = 1024 * host.describe()["cpu"].get("l3_kib", 0)
    count = max(STREAM_BYTES, 12 * l3_bytes) // (3 * threads) // 512 * 128
    arrays = [[aligned(4 * count).view(np.float32) for _ in "abc"] for _ in range(threads)]
    for own in arrays:
        for array in own:
            array.fill(1.0)
    states = [Stream(*(array.ctypes.data for array in own), count, 0.0) for own in arrays]
    places = [ctypes.addressof(state) for state in states]
    samples = {}
    for name, names in (("triad", 3), ("read_all", 1)):
        steps = 3 // names  # passes: as many bytes for both
        run(name, places, 1)
        work = names * 4 * count * threads * steps
        samples[name] = tuple(work / run(name, places, steps) for _ in range(PASSES))
    return Limit("GB/s", "triad", samples["triad"]), Limit("GB/s", "read_all", samples["read_all"])


def new_state(variant: Variant) -> np.ndarray:
    """Operands and accumulators for an arithmetic kernel, as bytes; the values stay finite for ever."""
    state = aligned(variant.state_bytes)
    if variant.kind == "fma":
        vectors = state.view(np.float32).reshape(-1, variant.bytes // 4)
        vectors[0], vectors[1] = 0.5, 1.0  # x = x / 2 + 1 goes to 2
    else:
        vectors = state.reshape(-1, variant.bytes)
        vectors[0], vectors[1] = 3, 1
    return state


def aligned(size: int) -> np.ndarray:
    """Zeroed bytes that start at a multiple of 64."""
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size]


def main() -> None:
    words = parser("peers.limits", __doc__)
    everything = range(1, len(os.sched_getaffinity(0)) + 1)
    words.add_argument("--threads", type=int, nargs="+", default=[*everything], choices=everything)
    words.add_argument("--json", action="store_true", help="with all samples")
    options = words.parse_args()
    found = [measure(threads) for threads in options.threads]
    if options.json:
        print(json.dumps([limits.to_json() for limits in found], indent=1))
        return
    print(found[0].cpu)
    print(f"{'threads':>7} {'limit':6} {'peak':>9} {'median':>9} {'IQR':>6}  unit     kernel")
    for limits in found:
        for name in ("fp32", "int8", "triad", "read"):
            limit = getattr(limits, name)
            if limit is None:
                print(f"{limits.threads:7} {name:6} {'-':>9}  no dot-product instruction")
                continue
            figures = f"{limit.peak:9.1f} {limit.median:9.1f} {limit.spread:6.1%}"
            print(f"{limits.threads:7} {name:6} {figures}  {limit.unit:8} {limit.kernel}")
    times = sorted(canary() for _ in range(21))
    print(f"canary {times[10] / 1e6:.3f} ms (quartiles {times[5] / 1e6:.3f} and {times[15] / 1e6:.3f})")


if __name__ == "__main__":
    sys.exit(finish(main))
