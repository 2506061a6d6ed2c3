"""Training: a recipe's first step, and fine-tuning in compression methods."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgepack.base.progress import Progress, silent
from edgepack.data.splits import count_samples, take
from edgepack.errors import InputError
from edgepack.scoring import Scorer
from edgepack.spec import Train
from edgepack.torchnet.answers import TeacherAnswers
from edgepack.torchnet.losses import fitting
from edgepack.torchnet.objective import Batch, Objective
from edgepack.torchnet.outputs import (
    FORWARD_ERRORS,
    all_outputs,
    does_not_run,
    inputs_of,
    outputs_of,
    targets_of,
)
from edgepack.torchnet.training_state import EpochsSoFar, TrainingState
from edgepack.torchnet.trainings import SavedState, Trainings

if TYPE_CHECKING:
    import torch

    from edgepack.data import Splits

_SMALL_PARAMETERS = 1_000_000
_CLIP = 1.0  # maximum norm of all gradients: limits the effect of a single batch
_QUIET_SECONDS = 2.0  # between two calls of progress within an epoch


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
        self._answers: TeacherAnswers | None = None  # before the first batch
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
        loss = self._loss(index)
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

    def _loss(self, index: "torch.Tensor") -> "torch.Tensor":
        module, objective = self._module, self._objective
        try:
            if self._answers is None:
                self._answers = TeacherAnswers(objective, self._x, self._spec.epochs)
            outputs = outputs_of(module(*(each[index] for each in self._x)))
            batch = Batch(outputs, take(self._y, index), self._answers.of(index))
            loss = (objective.loss or fitting)(batch)
        except FORWARD_ERRORS as error:
            raise does_not_run(module, self._data.x_train, error) from error
        return loss if objective.regulariser is None else loss + objective.regulariser(module)

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


def _check_targets(module: "torch.nn.Module", data: "Splits", scorer: Scorer) -> None:
    found = all_outputs(module, take(data.x_train, slice(0, 2)))
    for targets in (data.y_train, data.y_test):
        scorer.check(found, targets)
