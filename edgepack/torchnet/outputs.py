"""Running a module on samples."""

from typing import TYPE_CHECKING, Any

from edgepack.data.splits import Arrays, arrays_of, count_samples
from edgepack.errors import InputError
from edgepack.scoring import Evaluation, Scorer, merge_batches
from edgepack.spec import Metric
from edgepack.torchnet.layers import inference

if TYPE_CHECKING:
    import numpy as np
    import torch

FORWARD_ERRORS = (RuntimeError, TypeError, ValueError, IndexError)
"""What torch's layers raise for inputs that do not fit."""


def to_tensor(x: "np.ndarray") -> "torch.Tensor":
    """Convert samples for torch: pixels (uint8) and floats to float32, other integers (token ids) to int64."""
    import torch

    tensor = torch.from_numpy(x)
    if x.dtype.kind == "b":
        return tensor
    pixels = x.dtype.kind == "f" or x.dtype.name == "uint8"
    return tensor.to(torch.float32 if pixels else torch.int64)


def inputs_of(x: Arrays) -> "tuple[torch.Tensor, ...]":
    """The module's arguments, in order."""
    return tuple(to_tensor(array) for array in arrays_of(x))


def targets_of(y: Arrays) -> Any:
    """The targets as tensors: one, a dict of them, or None."""
    import torch

    if isinstance(y, dict):
        return {name: torch.from_numpy(array) for name, array in y.items()}
    return None if y is None else torch.from_numpy(y)


def outputs_of(found: Any) -> Any:
    """A module's one output, or the tuple of all in the order of its structure, as they are exported."""
    from torch.utils import _pytree

    leaves = _pytree.tree_leaves(found)
    return leaves[0] if len(leaves) == 1 else tuple(leaves)


def outputs(module: "torch.nn.Module", x: Arrays, batch: int = 256) -> "np.ndarray":
    """Return the module's first output for every sample, in eval mode: ``[N, ...]``; the mode is restored afterwards.

    Raises:
        InputError: the module does not run on the samples.
    """
    return all_outputs(module, x, batch)[0]


def all_outputs(module: "torch.nn.Module", x: Arrays, batch: int = 256) -> "tuple[np.ndarray, ...]":
    """Return all outputs of the module for every sample, each ``[N, ...]``; the mode is restored afterwards.

    Args:
        module: called with as many arguments as ``x`` has arrays.
        x: one array ``[N, ...]``, or several in the module's order.
        batch: samples that are run at once.

    Raises:
        InputError: the module does not run on the samples, or an output's first axis is not the batch.
    """
    import torch

    count, inputs = count_samples(x), inputs_of(x)
    parts: list[tuple[torch.Tensor, ...]] = []
    try:
        with inference(module):
            for start in range(0, count, batch):
                found = outputs_of(module(*(each[start : start + batch] for each in inputs)))
                parts.append(found if isinstance(found, tuple) else (found,))
        joined = [torch.cat(each) for each in zip(*parts, strict=True)]
    except FORWARD_ERRORS as error:
        raise does_not_run(module, x, error) from error
    if any(len(each) != count for each in joined):
        shapes = ", ".join(str(list(each.shape)) for each in joined)
        raise InputError(
            f"{count} samples give outputs of {shapes}",
            next="let the first axis of every output be the batch",
        )
    return tuple(each.numpy() for each in joined)


def whole_outputs(module: "torch.nn.Module", samples: Arrays) -> "tuple[np.ndarray, ...]":
    """Return all outputs of the module for inputs ``[N, *shape]`` that each have the model's own shape.

    An output whose first axis is that of the first input is ``[N * batch, ...]``, another one ``[N, ...]``.

    Raises:
        InputError: the module does not run on the samples.
    """
    import torch

    inputs = inputs_of(samples)
    runs = []
    try:
        with inference(module):
            for row in range(count_samples(samples)):
                found = outputs_of(module(*(each[row] for each in inputs)))
                runs.append(found if isinstance(found, tuple) else (found,))
    except FORWARD_ERRORS as error:
        raise does_not_run(module, samples, error) from error
    stacked = [torch.stack(each).numpy() for each in zip(*runs, strict=True)]
    first = inputs[0].shape[1:]
    return tuple(merge_batches(each, first[0] if first else None) for each in stacked)


def evaluated_outputs(module: "torch.nn.Module", evaluation: Evaluation) -> "tuple[np.ndarray, ...]":
    """Return all outputs of the module for what it is scored on.

    Raises:
        InputError: as :func:`all_outputs`.
    """
    run = whole_outputs if evaluation.whole else all_outputs
    return run(module, evaluation.inputs)


def does_not_run(module: "torch.nn.Module", x: Arrays, error: Exception) -> InputError:
    """The error for a module that raises one of ``FORWARD_ERRORS`` for samples ``x``."""
    shown = ", ".join(f"{array.dtype}{list(array.shape[1:])}" for array in arrays_of(x))
    return InputError(
        f"{type(module).__name__} does not run on the samples",
        why=str(error).strip(),
        next=f"a sample is {shown}: make the model take batches of it",
    )


def accuracy(module: "torch.nn.Module", x: Arrays, y: Arrays) -> float:
    """Top-1 accuracy (0..1) of ``module`` on samples ``[N, ...]`` and labels ``[N]``."""
    return Scorer(Metric(name="accuracy")).value(all_outputs(module, x), y)
