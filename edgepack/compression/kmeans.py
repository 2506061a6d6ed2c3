"""k-means with scikit-learn, with the same result on every machine for the same seed."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_BINS = 1 << 12  # of a histogram of scalars
_FITTED = 1 << 16  # vectors that centres are fitted to


def cluster_scalars(values: "np.ndarray", entries: int, seed: int) -> "tuple[np.ndarray, np.ndarray]":
    """Cluster numbers ``[N]``; returns centres in ascending order ``[<= entries]`` and codes ``[N]``.

    Centres start at equal distances from the smallest to the largest number, which keeps the large and rare ones apart
    (Han et al. 2016, arXiv:1510.00149, section 3.2). Many numbers are clustered by their histogram.
    """
    import numpy as np

    unique, weights = np.unique(values, return_counts=True)
    if len(unique) <= entries:
        return unique, np.searchsorted(unique, values)
    if len(unique) > _BINS:
        weights, edges = np.histogram(values, _BINS)
        sums, _ = np.histogram(values, edges, weights=values.astype("float64"))
        unique, weights = sums[weights > 0] / weights[weights > 0], weights[weights > 0]
        entries = min(entries, len(unique))
    start = np.linspace(unique.min(), unique.max(), entries)[:, None]
    centres = np.unique(_fit(unique[:, None], start, seed, weights).astype("float32"))
    return centres, np.searchsorted((centres[1:] + centres[:-1]) / 2, values)


def cluster_vectors(vectors: "np.ndarray", entries: int, seed: int) -> "tuple[np.ndarray, np.ndarray]":
    """Cluster vectors ``[N, size]``; returns centres ``[<= entries, size]`` and codes ``[N]``."""
    import numpy as np

    distinct = np.unique(vectors, axis=0)
    if len(distinct) <= entries:
        centres = distinct
    else:
        random = np.random.default_rng(seed)
        some = vectors[random.permutation(len(vectors))[:_FITTED]] if len(vectors) > _FITTED else vectors
        centres = _fit(some, "k-means++", seed, None, min(entries, len(np.unique(some, axis=0))))
    return centres.astype("float32"), nearest(vectors, centres)


def nearest(vectors: "np.ndarray", centres: "np.ndarray") -> "np.ndarray":
    """Return the number of the nearest of ``centres`` for each of ``vectors``."""
    import numpy as np

    norms = (centres**2).sum(1)
    parts = np.array_split(vectors, max(len(vectors) >> 14, 1))
    return np.concatenate([(norms - 2 * part @ centres.T).argmin(1) for part in parts])


def _fit(
    values: "np.ndarray",
    start: "np.ndarray | str",
    seed: int,
    weights: "np.ndarray | None",
    entries: int | None = None,
) -> "np.ndarray":
    import numpy as np
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    count = entries or len(start)
    # One thread: sums of several have no fixed order.
    with threadpool_limits(limits=1):
        fitted = KMeans(count, init=start, n_init=1, max_iter=100, random_state=seed).fit(
            values.astype("float64"), sample_weight=weights
        )
    centres: np.ndarray = np.asarray(fitted.cluster_centers_)
    return centres
