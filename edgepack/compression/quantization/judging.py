"""How much worse a quantized file is than the float one, on the calibration samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from edgepack.compression.method import Context
from edgepack.compression.quantization.feeds import Feeds
from edgepack.onnxfile.sessions import open_session, run_session
from edgepack.scoring import Evaluation, Scorer, merge_batches

if TYPE_CHECKING:
    import numpy as np


class Judge:
    """Compares files with the float model ``path`` on calibration samples, which are not those of the test split.

    With targets, by the recipe's metric. Without, by the outputs: the share of their energy that is noise.
    """

    def __init__(self, path: Path, feeds: Feeds, scorer: Scorer) -> None:
        self._feeds = feeds
        self._exact = self._outputs(path)
        targets = feeds.targets
        if scorer.of_source:
            targets = {str(number): array for number, array in enumerate(self._exact)}
        self._evaluation = None if targets is None else Evaluation(None, targets, scorer)
        self._sign = 1 if targets is None or scorer.higher_is_better(targets) else -1
        self._before = 0.0 if self._evaluation is None else self._evaluation.value(self._exact)

    @classmethod
    def of(cls, path: Path, feeds: Feeds, context: Context) -> Self:
        """Return a judge by the recipe's metric."""
        return cls(path, feeds, Scorer(context.metric, context.base))

    @property
    def measure(self) -> str:
        """What :meth:`loss` is: the name of the metric, or ``noise``."""
        return "noise" if self._evaluation is None else self._evaluation.scorer.name(self._evaluation.targets)

    def loss(self, path: Path) -> float:
        """Return by how much the metric of the file is worse, or the share of noise in its outputs; 0 is no loss."""
        outputs = self._outputs(path)
        if self._evaluation is None:
            return self._noise(outputs)
        return self._sign * (self._before - self._evaluation.value(outputs))

    def noise(self, path: Path) -> float:
        """Return the share of the energy of the file's outputs that is noise."""
        return self._noise(self._outputs(path))

    def _noise(self, outputs: "Sequence[np.ndarray]") -> float:
        import numpy as np

        noise = signal = 0.0
        for ours, exact in zip(outputs, self._exact, strict=True):
            if exact.dtype.kind != "f":
                continue
            wide = exact.astype(np.float64)
            usable = np.isfinite(wide) & np.isfinite(ours)
            noise += float(np.square(ours - wide, where=usable, out=np.zeros_like(wide)).sum())
            signal += float(np.square(wide, where=usable, out=np.zeros_like(wide)).sum())
        return noise / signal if signal else 0.0

    def _outputs(self, path: Path) -> "list[np.ndarray]":
        import numpy as np

        session = open_session(path)
        runs = [run_session(session, feed, path) for feed in self._feeds.batches]
        first = next(iter(self._feeds.batches[0].values()))
        batch = len(first) if first.ndim else None
        return [merge_batches(np.stack(each), batch) for each in zip(*runs, strict=True)]
