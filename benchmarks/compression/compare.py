"""Compare cells with their source and with each other, seed by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.compression.cells import SOURCE
from benchmarks.compression.measure import unpacked

Seeds = Sequence[Mapping[str, Any]]

_DRAWS = 2000


@dataclass(frozen=True)
class Compared:
    """A cell against its source, a value per seed.

    ``drop``, ``robust_drop`` (of the mean under corruption) and ``fgsm_drop`` are percentage points, positive where the cell
    is worse; ``extra`` is how much more it loses under corruption than its source does; ``smaller`` is how many times fewer
    bytes its weights take in the bundle than the source's in float32; ``macs`` and ``nonzeros`` are shares of the source's.
    """

    score: tuple[float, ...]
    drop: tuple[float, ...]
    smaller: tuple[float, ...]
    weights: tuple[float, ...]
    macs: tuple[float, ...]
    nonzeros: tuple[float, ...]
    robust: tuple[float, ...]
    robust_drop: tuple[float, ...]
    extra: tuple[float, ...]
    fgsm_drop: tuple[float, ...]


def compare(cells: Mapping[str, Seeds], name: str) -> Compared | None:
    """Compare the cell ``name`` of a network with its source, for all seeds that both have; None if there are none."""
    sources = {each["seed"]: each for each in cells.get(SOURCE, ())}
    pairs = [(sources[each["seed"]], each) for each in cells.get(name, ()) if each["seed"] in sources]
    if not pairs:
        return None

    def each(value: Any, *needed: str) -> tuple[float, ...]:
        return tuple(
            value(source, cell)
            for source, cell in pairs
            if all(one[key] is not None for one in (source, cell) for key in needed)
        )

    return Compared(
        score=each(lambda _, cell: cell["score"]),
        drop=each(lambda source, cell: 100 * (source["score"] - cell["score"])),
        smaller=each(lambda source, cell: source["raw"] / cell["weights"]),
        weights=each(lambda _, cell: float(cell["weights"])),
        macs=each(lambda source, cell: cell["macs"] / source["macs"], "macs"),
        nonzeros=each(lambda source, cell: cell["nonzeros"] / source["nonzeros"], "nonzeros"),
        robust=each(lambda _, cell: cell["robust"], "robust"),
        robust_drop=each(lambda source, cell: 100 * (source["robust"] - cell["robust"]), "robust"),
        extra=each(
            lambda source, cell: (
                100 * ((cell["score"] - cell["robust"]) - (source["score"] - source["robust"]))
            ),
            "robust",
        ),
        fgsm_drop=each(lambda source, cell: 100 * (source["fgsm"] - cell["fgsm"]), "fgsm"),
    )


@dataclass(frozen=True)
class Difference:
    """How many percentage points better one cell is than another, with its 95 % interval."""

    value: float
    low: float
    high: float
    seeds: int

    @property
    def decided(self) -> bool:
        """Whether the interval does not contain 0."""
        return not self.low <= 0 <= self.high


def difference(better: Seeds, worse: Seeds, samples: int) -> Difference | None:
    """The mean difference in accuracy over common seeds; None if there are none.

    The interval is the percentile interval of a paired bootstrap over seeds and test samples: both cells are drawn at the
    same seeds and samples (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993).

    Args:
        better: figures with ``right``.
        worse: those of the cell that it is compared with.
        samples: size of the test split.
    """
    others = {each["seed"]: each for each in worse}
    gains = np.array(
        [
            unpacked(each["right"], samples).astype(np.int8)
            - unpacked(others[each["seed"]]["right"], samples)
            for each in better
            if each["seed"] in others
        ]
    )
    if not len(gains):
        return None
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(_DRAWS):
        of_samples = random.multinomial(samples, np.full(samples, 1 / samples))
        of_seeds = random.integers(len(gains), size=len(gains))
        drawn.append((gains[of_seeds] @ of_samples).mean() / samples)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Difference(100 * float(gains.mean()), 100 * float(low), 100 * float(high), len(gains))
