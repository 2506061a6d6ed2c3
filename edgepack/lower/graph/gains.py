"""Where a kernel is no slower for decoding its weights: measured facts, by kind of CPU.

``python -m benchmarks.decoding`` measures layers both ways; docs/encodings.md has the figures behind each row.
"""

import math
from dataclasses import dataclass
from typing import Literal

from edgepack.config.target import Target

_MOST_REUSE = 16  # the longest register tile along an axis of the data


@dataclass(frozen=True)
class Use:
    """How a kernel uses its weight.

    Attributes:
        kernel: ``convolution``, ``product`` or ``embedding``.
        sums: products in a sum.
        extents: the axes of the data; each weight is used once at every position along them.
        size: bytes of the weight in fp32.
    """

    kernel: Literal["convolution", "product", "embedding"]
    sums: int
    extents: tuple[int, ...]
    size: int

    @property
    def reuse(self) -> int:
        """Multiply-adds that a widened vector can serve: the longest register tile along an axis of the data."""
        tiles = (n for extent in self.extents for n in range(1, _MOST_REUSE + 1) if extent % n == 0)
        return max(tiles, default=1)


@dataclass(frozen=True)
class Gain:
    """A measured fact: on such CPUs such kernels are no slower for decoding their weights. All limits must hold.

    Attributes:
        cpu: the kind, as ``kind_of`` names it, or ``any``.
        kernel: as in ``Use``.
        positions: at most so many uses of each weight.
        longest: the data's longest axis lies between these.
        sums: no fewer and no more products in a sum than these.
        reuse: at least so many multiply-adds for a widened vector.
        beyond_caches: the weight in fp32 does not fit the last cache.
    """

    cpu: str
    kernel: str
    positions: float = math.inf
    longest: tuple[float, float] = (1, math.inf)
    sums: tuple[float, float] = (1, math.inf)
    reuse: int = 1
    beyond_caches: bool = False

    def covers(self, use: Use, target: Target) -> bool:
        """Whether the fact says something of this use."""
        cached = 1024 * (target.cpu.l3_kib or target.cpu.l2_kib)
        return (
            self.kernel == use.kernel
            and self.cpu in {kind_of(target), "any"}
            and math.prod(use.extents) <= self.positions
            and self.longest[0] <= max(use.extents, default=1) <= self.longest[1]
            and self.sums[0] <= use.sums <= self.sums[1]
            and use.reuse >= self.reuse
            and (use.size > cached or not self.beyond_caches)
        )


# What no row covers is decoded on the build host.
GAINS = (
    Gain("any", "embedding"),  # reads the rows it is asked for, each once
    # AVX-512 extends and converts beside the multiply-adds.
    Gain("avx512f", "convolution", reuse=7),
    Gain("avx512f", "product", reuse=7),
    Gain("avx512f", "convolution", positions=1),
    Gain("avx512f", "product", positions=1),
    # AVX2 has half the registers, half as wide: widening shows, except where weights are loaded for little work: long
    # sums over small maps, a single row. Short sums over maps of 56 gain because the tile model errs in fp32 there.
    Gain("avx2", "convolution", longest=(56, 56), sums=(1, 32)),
    Gain("avx2", "convolution", longest=(7, 7), sums=(512, math.inf)),
    Gain("avx2", "convolution", positions=1),
    Gain("avx2", "product", positions=1),
    # SSE4.2 gains nowhere: it has no row.
    # NEON takes five instructions for eight bytes, in place of multiply-adds.
    Gain("neon", "convolution", positions=1, beyond_caches=True),
    Gain("neon", "product", positions=1, beyond_caches=True),
)


def kind_of(target: Target) -> str:
    """The kind of CPU that measurements are told apart by: ``avx512f``, ``avx2``, ``sse4.2`` or ``neon``."""
    if target.abi.arch == "aarch64":
        return "neon"
    return next((kind for kind in ("avx512f", "avx2") if kind in target.cpu.features), "sse4.2")


def pays(use: Use, target: Target) -> bool:
    """Whether it was measured that a kernel that uses its weight so is no slower for decoding it."""
    return any(gain.covers(use, target) for gain in GAINS)
