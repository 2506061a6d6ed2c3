"""The kernels that measure this machine's limits: generated C, compiled for this very CPU, loaded with ctypes.

All have one signature, ``void kernel(void *state, long steps)``. The arithmetic ones keep ``unroll`` independent
accumulators in registers, enough to hide an instruction's latency, and do one multiply-add on each in every step:

    fma_<bytes>_<unroll>   fp32: x = x * m + b; state: m, b (one vector each), then the accumulators
    dot_<bytes>_<unroll>   int8: x += u8 · s8 in fours (VNNI), s8 · s8 on ARM; state: both operands, then the accumulators
    triad, read            a = b + 3 c with stores past the caches, and the sum of an array; state: a ``Stream``

Which width and unrolling are the fastest is for whoever measures; ``variants`` names those there are.
"""

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kit.native import shared_library
from edgepack.config import host

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

    @property
    def state_bytes(self) -> int:
        """Two operands and the accumulators."""
        return (2 + self.unroll) * self.bytes


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
