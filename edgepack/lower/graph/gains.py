"""Where decoding weights in the kernel is no slower, as measured per kind of CPU.

``python -m benchmarks.decoding`` measures layers with and without; docs/encodings.md has the figures for each row.
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
        sums: products per sum.
        extents: the axes of the data; each weight is used once at every position along them.
        size: bytes of the weight in fp32.
    """

    kernel: Literal["convolution", "product", "embedding"]
    sums: int
    extents: tuple[int, ...]
    size: int

    @property
    def reuse(self) -> int:
        """Multiply-adds per widened vector: the longest register tile along an axis of the data."""
        tiles = (n for extent in self.extents for n in range(1, _MOST_REUSE + 1) if extent % n == 0)
        return max(tiles, default=1)


@dataclass(frozen=True)
class Gain:
    """A measurement: on these CPUs, these kernels are no slower when they decode their weights. All limits must hold.

    Attributes:
        cpu: kind of CPU, as returned by ``kind_of``, or ``any``.
        kernel: as in ``Use``.
        positions: maximum number of uses of each weight.
        longest: minimum and maximum length of the data's longest axis.
        sums: minimum and maximum number of products per sum.
        reuse: minimum number of multiply-adds per widened vector.
        beyond_caches: whether the fp32 weight must exceed the last-level cache.
    """

    cpu: str
    kernel: str
    positions: float = math.inf
    longest: tuple[float, float] = (1, math.inf)
    sums: tuple[float, float] = (1, math.inf)
    reuse: int = 1
    beyond_caches: bool = False

    def covers(self, use: Use, target: Target) -> bool:
        """Whether the measurement applies to this use."""
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


# Weights not covered by any row are decoded when the model is loaded.
GAINS = (
    Gain("any", "embedding"),  # reads only the requested rows, each once
    # AVX-512 extends and converts in parallel with the multiply-adds.
    Gain("avx512f", "convolution", reuse=7),
    Gain("avx512f", "product", reuse=7),
    Gain("avx512f", "convolution", positions=1),
    Gain("avx512f", "product", positions=1),
    # AVX2 has half the registers, half as wide: widening costs time, except where weights are loaded for little work:
    # long sums over small maps, a single row. Short sums over maps of 56 gain because the tile model errs in fp32 there.
    Gain("avx2", "convolution", longest=(56, 56), sums=(1, 32)),
    Gain("avx2", "convolution", longest=(7, 7), sums=(512, math.inf)),
    Gain("avx2", "convolution", positions=1),
    Gain("avx2", "product", positions=1),
    # SSE4.2 gains nowhere, so it has no row.
    # NEON needs five instructions for eight bytes, which displace multiply-adds.
    Gain("neon", "convolution", positions=1, beyond_caches=True),
    Gain("neon", "product", positions=1, beyond_caches=True),
)


def kind_of(target: Target) -> str:
    """Return the kind of CPU by which measurements are grouped: ``avx512f``, ``avx2``, ``sse4.2`` or ``neon``."""
    if target.abi.arch == "aarch64":
        return "neon"
    return next((kind for kind in ("avx512f", "avx2") if kind in target.cpu.features), "sse4.2")


def pays(use: Use, target: Target) -> bool:
    """Whether a measurement shows that decoding the weight in this kernel is no slower."""
    return any(gain.covers(use, target) for gain in GAINS)
