"""What teachers answer to training samples."""

from typing import TYPE_CHECKING, Any

from edgepack.torchnet.objective import Objective
from edgepack.torchnet.outputs import outputs_of

if TYPE_CHECKING:
    import torch

MOST_BYTES = 1 << 28
"""Memory that answers may take; if all take more, teachers run for every batch."""

_AT_ONCE = 256  # samples


class TeacherAnswers:
    """The outputs of an objective's teachers for a training's samples.

    Teachers that answer a sample alike in every epoch run once, if their answers fit into memory: a student that is much
    smaller trains in a fraction of the time.
    """

    def __init__(self, objective: Objective, inputs: "tuple[torch.Tensor, ...]", epochs: int) -> None:
        self._teachers, self._inputs = objective.teachers, inputs
        repeated = objective.constant_teachers and epochs > 1
        self._stored = [_stored(each, inputs) if repeated else None for each in self._teachers]

    def of(self, index: "torch.Tensor") -> tuple[Any, ...]:
        """Each teacher's outputs for the samples of these numbers: a tensor, or a tuple of them."""
        import torch

        found = []
        with torch.no_grad():
            for teacher, stored in zip(self._teachers, self._stored, strict=True):
                if stored is None:
                    found.append(outputs_of(teacher(*(each[index] for each in self._inputs))))
                else:
                    chosen = tuple(each[index] for each in stored)
                    found.append(chosen[0] if len(chosen) == 1 else chosen)
        return tuple(found)


def _stored(
    teacher: "torch.nn.Module", inputs: "tuple[torch.Tensor, ...]"
) -> "tuple[torch.Tensor, ...] | None":
    """All outputs of a teacher, ``[N, ...]`` each; None if they are too large, not one per sample, or random."""
    import torch

    count, parts = len(inputs[0]), []
    with torch.no_grad():
        for start in range(0, count, _AT_ONCE):
            batch = tuple(each[start : start + _AT_ONCE] for each in inputs)
            outputs = _leaves(teacher(*batch))
            size = sum(each.nbytes for each in outputs) * count / len(batch[0])
            if size > MOST_BYTES or any(each.dim() == 0 or len(each) != len(batch[0]) for each in outputs):
                return None
            if start == 0 and not _equal(outputs, _leaves(teacher(*batch))):
                return None
            parts.append(outputs)
    return tuple(torch.cat(each) for each in zip(*parts, strict=True))


def _leaves(found: Any) -> "tuple[torch.Tensor, ...]":
    outputs = outputs_of(found)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _equal(first: "tuple[torch.Tensor, ...]", second: "tuple[torch.Tensor, ...]") -> bool:
    import torch

    return all(torch.allclose(one, other, equal_nan=True) for one, other in zip(first, second, strict=True))
