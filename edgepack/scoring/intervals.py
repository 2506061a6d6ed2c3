"""95 % intervals of a metric: Wilson's for a share of right answers, the bootstrap's for everything else."""

from collections.abc import Callable
from math import sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_Z = 1.959963984540054  # of the normal distribution, 95 % between -z and z
_RESAMPLES = 1000
_GROUPS = 1000  # sums of samples that are drawn; more samples are drawn as groups
_SEED = 0


def wilson(right: float, count: float) -> tuple[float, float]:
    """Wilson's score interval (1927) of the share ``right / count`` of independent answers."""
    share = right / count
    centre = (share + _Z * _Z / (2 * count)) / (1 + _Z * _Z / count)
    half = _Z / (1 + _Z * _Z / count) * sqrt(share * (1 - share) / count + _Z * _Z / (4 * count * count))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def bootstrap(
    counted: "np.ndarray", figure: "Callable[[np.ndarray], np.ndarray]"
) -> tuple[float, float] | None:
    """The percentile interval (Efron 1979) of ``figure`` of the sums of ``counted`` ``[N, K]``; None for one sample.

    Samples are drawn 1,000 times with replacement, always the same ones. More than 1,000 samples are drawn in 1,000 groups.
    """
    import numpy as np

    count = len(counted)
    if count < 2:  # noqa: PLR2004 - one sample has no spread
        return None
    if count > _GROUPS:
        sums = np.zeros((_GROUPS, counted.shape[1]))
        np.add.at(sums, np.arange(count) % _GROUPS, counted)
        counted, count = sums, _GROUPS
    drawn = np.random.default_rng(_SEED).multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
    low, high = np.percentile(figure(drawn @ counted), [2.5, 97.5])
    return float(low), float(high)


def by_spread(value: float, count: int, again: "Callable[[np.ndarray], float]") -> tuple[float, float] | None:
    """The interval of a metric that has to be computed anew of each draw: 1.96 standard deviations of 50 draws.

    ``again`` gives the metric of the samples of these numbers.
    """
    import numpy as np

    if count < 2:  # noqa: PLR2004 - one sample has no spread
        return None
    rng = np.random.default_rng(_SEED)
    values = [again(rng.integers(0, count, count)) for _ in range(50)]
    half = _Z * float(np.std(values, ddof=1))
    return value - half, value + half
