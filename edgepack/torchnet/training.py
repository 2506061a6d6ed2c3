"""Training: a recipe's first step, and fine-tuning in compression methods."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgepack.base.progress import Progress, silent
from edgepack.data.splits import Arrays, arrays_of, count_samples, take
from edgepack.errors import InputError
from edgepack.scoring import Evaluation, Scorer, merge_batches
from edgepack.spec import Metric, Train
from edgepack.torchnet.layers import inference
from edgepack.torchnet.losses import fitting
from edgepack.torchnet.objective import Batch, Objective
from edgepack.torchnet.training_state import EpochsSoFar, TrainingState
from edgepack.torchnet.trainings import SavedState, Trainings

if TYPE_CHECKING:
    import numpy as np
    import torch

    from edgepack.data import Splits

_SMALL_PARAMETERS = 1_000_000
_CLIP = 1.0  # maximum norm of all gradients: limits the effect of a single batch
_QUIET_SECONDS = 2.0  # between two calls of progress within an epoch
_FORWARD_ERRORS = (RuntimeError, TypeError, ValueError, IndexError)  # raised by torch's layers


def train(
    module: "torch.nn.Module",
    data: "Splits",
    spec: Train,
    progress: Progress = silent,
    *,
    objective: Objective | None = None,
    scorer: Scorer | None = None,
    trainings: Trainings | None = None,
) -> dict[str, float]:
    """Train ``module`` in place on the training split and leave it in eval mode.

    Uses the objective's optimizer (default Adam) with cosine decay (Loshchilov and Hutter 2017,
    arXiv:1608.03983) over all batches, and gradients clipped to norm 1. Equal seed, data and number of
    threads give equal weights; the caller's random state is preserved.

    If the loss or a weight becomes NaN or infinite, training ends with the weights of an epoch before; which one is said in
    :class:`edgepack.torchnet.training_state.EpochsSoFar`, and that it did in ``trainings``. A training whose process was killed
    continues after the last epoch that ``trainings`` has kept, with the same result, if all that the objective keeps between
    steps is known.

    Args:
        module: the module to train.
        data: training and test samples.
        spec: epochs, learning rate, batch size, seed.
        progress: called after each epoch, and every few seconds.
        objective: loss and optimizer; the loss that fits the targets with Adam if None.
        scorer: the metric that is returned; that of the targets if None.
        trainings: where the training is recorded.

    Returns ``{"loss": mean of the last epoch, "train_accuracy": 0..1, "test_accuracy": 0..1}``, named by the metric; only
    the loss if the objective does not match targets, or the metric compares with the source model. The metric on the training
    split is that of evenly spaced samples, about as many as there are test samples.

    Raises:
        InputError: if ``module`` does not run on the samples, its outputs do not fit the targets, or the loss or a weight
            becomes NaN or infinite in the first epoch.
    """
    import torch

    objective, scorer, trainings = objective or Objective(), scorer or Scorer(), trainings or Trainings()
    scored = objective.classifies and data.y_train is not None and not scorer.of_source
    if scored:
        _check_targets(module, data, scorer)
    with threads_for(module), torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        course = _Loop(module, data, spec, objective, progress).run(trainings.begin())
    module.eval()
    trainings.records.append(course.record(spec))
    if not scored:
        return {"loss": course.loss}
    name = scorer.name(data.y_train)
    some = slice(None, None, max(1, count_samples(data.x_train) // count_samples(data.x_test)))
    return {
        "loss": course.loss,
        f"train_{name}": scorer.value(
            all_outputs(module, take(data.x_train, some)), take(data.y_train, some)
        ),
        f"test_{name}": scorer.value(all_outputs(module, data.x_test), data.y_test),
    }


class _Diverged(Exception):  # noqa: N818 - how an epoch may end
    """A value became NaN or infinite."""


class _Loop:
    """The epochs of one training."""

    def __init__(
        self,
        module: "torch.nn.Module",
        data: "Splits",
        spec: Train,
        objective: Objective,
        progress: Progress,
    ) -> None:
        import torch

        self._module, self._data, self._spec, self._objective = module, data, spec, objective
        self._x, self._y = inputs_of(data.x_train), targets_of(data.y_train)
        self._count = count_samples(data.x_train)
        # A last batch of one sample has no variance, which batch normalisation rejects.
        self._batches = max(1, self._count // spec.batch_size + (self._count % spec.batch_size > 1))
        self._optimizer = objective.optimizer(module, spec)
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self._optimizer, T_max=spec.epochs * self._batches
        )
        self._state = TrainingState(module, objective, self._optimizer)
        self._progress, self._told = progress, time.monotonic()

    def run(self, saved: SavedState | None) -> EpochsSoFar:
        """Train until the last epoch, or until a value becomes NaN or infinite; from the state on disk, if there is one."""
        epochs = self._spec.epochs
        course = EpochsSoFar(scheduled=self._objective.before_step is not None)
        saved = saved if self._state.is_whole else None
        start = "" if saved is None else self._state.digest(self._spec, self._data)
        if saved is not None and (found := saved.load(start)) is not None:
            self._resume(found, course)
            self._tell(f"continued after epoch {course.finished}/{epochs}", course.finished / epochs)
        while course.finished < epochs and course.diverged is None:
            epoch = course.finished + 1
            try:
                course.add(self._epoch(epoch), self._state)
            except _Diverged as diverged:
                if not course.kept:
                    raise self._cannot_train(str(diverged)) from diverged
                self._state.restore(course.end(str(diverged)))
                self._tell(f"{course.diverged}: the weights after epoch {course.kept} are kept", None)
            else:
                self._tell(f"epoch {epoch}/{epochs}, loss {course.loss:.4f}", epoch / epochs)
            if saved is not None:
                saved.save(start, lambda: self._whole_state(course))
        return course

    def _whole_state(self, course: EpochsSoFar) -> dict[str, Any]:
        """Everything that the next epoch depends on."""
        import torch

        return {
            **self._state.copy(),
            "course": course.to_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "random": torch.random.get_rng_state(),
        }

    def _resume(self, found: dict[str, Any], course: EpochsSoFar) -> None:
        import torch

        weights = {name: found[name] for name in ("tensors", "hooks")}
        self._state.restore(weights)
        course.resume(found["course"], weights)
        self._optimizer.load_state_dict(found["optimizer"])
        self._schedule.load_state_dict(found["schedule"])
        torch.random.set_rng_state(found["random"])

    def _epoch(self, epoch: int) -> float:
        """Train for an epoch; returns the mean loss of its batches."""
        import torch

        module, size, epochs = self._module, self._spec.batch_size, self._spec.epochs
        module.train()
        order = torch.randperm(self._count)[: self._batches * size]
        total = 0.0
        for number, index in enumerate(order.split(size)):
            loss = self._step(index, (epoch - 1) * self._batches + number)
            if not math.isfinite(loss):
                raise _Diverged(f"the loss became {loss} in epoch {epoch}")
            total += loss
            if number + 1 < self._batches and time.monotonic() - self._told > _QUIET_SECONDS:
                share = (epoch - 1 + (number + 1) / self._batches) / epochs
                self._tell(f"epoch {epoch}/{epochs}, batch {number + 1}/{self._batches}", share)
        if (name := self._state.broken()) is not None:
            raise _Diverged(f"{name} became NaN or infinite in epoch {epoch}")
        return total / self._batches

    def _step(self, index: "torch.Tensor", done: int) -> float:
        """Update the weights for one batch after ``done`` others, unless its loss, which is returned, is NaN or infinite."""
        import torch

        module, objective, optimizer = self._module, self._objective, self._optimizer
        steps = self._spec.epochs * self._batches
        if objective.before_step is not None:
            objective.before_step(module, done / steps)
        loss = _loss(
            module, objective, tuple(each[index] for each in self._x), take(self._y, index), self._data
        )
        if torch.isfinite(loss):
            optimizer.zero_grad()
            module.zero_grad()  # the optimizer may not have all parameters
            loss.backward()
            updated = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(updated, _CLIP)
            optimizer.step()
            self._schedule.step()
            if objective.after_step is not None:
                objective.after_step(module, (done + 1) / steps)
        return float(loss.item())

    def _tell(self, text: str, share: float | None) -> None:
        self._told = time.monotonic()
        self._progress(text, share)

    def _cannot_train(self, what: str) -> InputError:
        return InputError(
            what,
            where="training",
            why=f"the learning rate {self._spec.lr:g} is too high for this model and data",
            next="lower lr in the recipe, or scale the samples to about -1..1",
        )


def _loss(
    module: "torch.nn.Module", objective: Objective, x: "tuple[torch.Tensor, ...]", y: Any, data: "Splits"
) -> "torch.Tensor":
    import torch

    try:
        with torch.no_grad():
            taught = tuple(outputs_of(teacher(*x)) for teacher in objective.teachers)
        loss = (objective.loss or fitting)(Batch(outputs_of(module(*x)), y, taught))
    except _FORWARD_ERRORS as error:
        raise _does_not_run(module, data.x_train, error) from error
    return loss if objective.regulariser is None else loss + objective.regulariser(module)


@contextmanager
def threads_for(module: "torch.nn.Module") -> Iterator[None]:
    """Use one thread for a small network, whose layers finish before a second thread has woken up.

    (The digits network trains 4 times faster on an idle 2-core machine, and 20 times on a busy one.) The
    weights then do not depend on the machine's number of cores either.
    """
    import torch

    before = torch.get_num_threads()
    if sum(p.numel() for p in module.parameters()) < _SMALL_PARAMETERS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
    except _FORWARD_ERRORS as error:
        raise _does_not_run(module, x, error) from error
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
    except _FORWARD_ERRORS as error:
        raise _does_not_run(module, samples, error) from error
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


def _does_not_run(module: "torch.nn.Module", x: Arrays, error: Exception) -> InputError:
    shown = ", ".join(f"{array.dtype}{list(array.shape[1:])}" for array in arrays_of(x))
    return InputError(
        f"{type(module).__name__} does not run on the samples",
        why=str(error).strip(),
        next=f"a sample is {shown}: make the model take batches of it",
    )


def accuracy(module: "torch.nn.Module", x: Arrays, y: Arrays) -> float:
    """Top-1 accuracy (0..1) of ``module`` on samples ``[N, ...]`` and labels ``[N]``."""
    return Scorer(Metric(name="accuracy")).value(all_outputs(module, x), y)


def _check_targets(module: "torch.nn.Module", data: "Splits", scorer: Scorer) -> None:
    found = all_outputs(module, take(data.x_train, slice(0, 2)))
    for targets in (data.y_train, data.y_test):
        scorer.check(found, targets)
