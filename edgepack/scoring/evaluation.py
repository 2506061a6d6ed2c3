"""What a model is scored on: inputs, and what its outputs are compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from edgepack.data.splits import IGNORED, Arrays, Splits, arrays_of
from edgepack.scoring.scorer import Scorer
from edgepack.spec import Score

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Evaluation:
    """Inputs of the test split, targets, and the metric.

    Attributes:
        inputs: one array ``[N, ...]``, or several by input name in the model's order. With ``whole``, each row is an input
            of the model with its batch axis.
        targets: as :class:`~edgepack.scoring.Scorer` takes them.
        scorer: the metric.
        whole: whether the inputs are the recipe's ``samples``.
    """

    inputs: Arrays
    targets: Arrays
    scorer: Scorer
    whole: bool = False

    @classmethod
    def of(
        cls,
        scorer: Scorer,
        data: Splits | None,
        samples: "Mapping[str, np.ndarray] | None" = None,
        source: "Sequence[np.ndarray] | None" = None,
    ) -> Self | None:
        """The evaluation by labels, or against the outputs of the source model; None if there is nothing to compare with."""
        if scorer.of_source:
            inputs = samples if data is None else data.x_test
            if inputs is None or source is None:
                return None
            targets = {str(number): array for number, array in enumerate(source)}
            return cls(inputs, targets, scorer, whole=data is None)
        if data is None or data.y_test is None:
            return None
        return cls(data.x_test, data.y_test, scorer)

    def score(self, outputs: "Sequence[np.ndarray]") -> Score:
        """The metric of outputs for ``inputs``, with its interval.

        Raises:
            InputError: as :meth:`Scorer.value`.
        """
        return self.scorer.score(outputs, self.targets)

    def value(self, outputs: "Sequence[np.ndarray]") -> float:
        """The metric of outputs for ``inputs``.

        Raises:
            InputError: as :meth:`Scorer.value`.
        """
        return self.scorer.value(outputs, self.targets)


def merge_batches(outputs: "np.ndarray", batch: int | None) -> "np.ndarray":
    """Outputs ``[N, batch, ...]`` of N inferences as ``[N * batch, ...]``; as they are if their first axis is another one."""
    if outputs.ndim > 1 and batch is not None and outputs.shape[1] == batch:
        return outputs.reshape(-1, *outputs.shape[2:])
    return outputs


def chance(targets: Arrays) -> float | None:
    """The accuracy (0..1) of always answering the most frequent class; None for targets that are no classes."""
    import numpy as np

    arrays = arrays_of(targets)
    if not arrays or any(array.dtype.kind not in "iub" for array in arrays):
        return None
    shares = []
    for array in arrays:
        kept = array[array != IGNORED].reshape(-1).astype(np.int64)
        shares.append(float(np.bincount(kept).max() / len(kept)) if len(kept) else 0.0)
    return sum(shares) / len(shares)
