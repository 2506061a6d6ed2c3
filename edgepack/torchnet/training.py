"""Training: a recipe's first step, and fine-tuning in compression methods."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgepack.base.progress import Progress, silent
from edgepack.errors import InputError
from edgepack.spec import Train
from edgepack.torchnet.layers import inference
from edgepack.torchnet.objective import Batch, Objective

if TYPE_CHECKING:
    import numpy as np
    import torch

    from edgepack.data import Splits

_SMALL_PARAMETERS = 1_000_000
_CLIP = 1.0  # maximum norm of all gradients: limits the effect of a single batch
_FORWARD_ERRORS = (RuntimeError, TypeError, ValueError, IndexError)  # raised by torch's layers


def train(
    module: "torch.nn.Module",
    data: "Splits",
    spec: Train,
    progress: Progress = silent,
    *,
    objective: Objective | None = None,
) -> dict[str, float]:
    """Train ``module`` in place on the training split and leave it in eval mode.

    Uses the objective's optimizer (default Adam) with cosine decay (Loshchilov and Hutter 2017,
    arXiv:1608.03983) over all batches, and gradients clipped to norm 1. Equal seed, data and number of
    threads give equal weights; the caller's random state is preserved.

    Args:
        module: the module to train.
        data: training and test samples.
        spec: epochs, learning rate, batch size, seed.
        progress: called after each epoch.
        objective: loss and optimizer; cross-entropy with Adam if None.

    Returns ``{"loss": mean of the last epoch, "train_accuracy": 0..1, "test_accuracy": 0..1}``; only the loss
    if the objective does not classify.

    Raises:
        InputError: if ``module`` does not run on the samples, does not return ``[N, classes]`` with a
            class for every label, or the loss becomes NaN or infinite.
    """
    import torch

    objective = objective or Objective()
    x, y = to_tensor(data.x_train), torch.from_numpy(data.y_train)
    if objective.classifies:
        _check_classes(module, data)
    # A last batch of one sample has no variance, which batch normalisation rejects.
    batches = max(1, len(x) // spec.batch_size + (len(x) % spec.batch_size > 1))
    steps = spec.epochs * batches
    optimizer = objective.optimizer(module, spec)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    updated = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    mean_loss, done = 0.0, 0
    with _threads_for(module), torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        for epoch in range(1, spec.epochs + 1):
            module.train()
            order = torch.randperm(len(x))
            total = 0.0
            for index in order[: batches * spec.batch_size].split(spec.batch_size):
                if objective.before_step is not None:
                    objective.before_step(module, done / steps)
                loss = _loss(module, objective, x[index], y[index], data)
                if not torch.isfinite(loss):
                    raise InputError(
                        f"the loss became {loss.item()} in epoch {epoch}",
                        where="training",
                        why=f"the learning rate {spec.lr:g} is too high for this model and data",
                        next="lower lr in the recipe, or scale the samples to about -1..1",
                    )
                optimizer.zero_grad()
                module.zero_grad()  # the optimizer may not have all parameters
                loss.backward()
                torch.nn.utils.clip_grad_norm_(updated, _CLIP)
                optimizer.step()
                schedule.step()
                done += 1
                if objective.after_step is not None:
                    objective.after_step(module, done / steps)
                total += loss.item()
            mean_loss = total / batches
            progress(f"epoch {epoch}/{spec.epochs}, loss {mean_loss:.4f}", epoch / spec.epochs)
    module.eval()
    if not objective.classifies:
        return {"loss": mean_loss}
    return {
        "loss": mean_loss,
        "train_accuracy": accuracy(module, data.x_train, data.y_train),
        "test_accuracy": accuracy(module, data.x_test, data.y_test),
    }


def _loss(
    module: "torch.nn.Module", objective: Objective, x: "torch.Tensor", y: "torch.Tensor", data: "Splits"
) -> "torch.Tensor":
    import torch

    try:
        with torch.no_grad():
            taught = tuple(teacher(x) for teacher in objective.teachers)
        loss = objective.loss(Batch(module(x), y, taught))
    except _FORWARD_ERRORS as error:
        raise _does_not_run(module, data.x_train, error) from error
    return loss if objective.regulariser is None else loss + objective.regulariser(module)


@contextmanager
def _threads_for(module: "torch.nn.Module") -> Iterator[None]:
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
    pixels = x.dtype.kind == "f" or x.dtype.name == "uint8"
    return tensor.to(torch.float32 if pixels else torch.int64)


def outputs(module: "torch.nn.Module", x: "np.ndarray", batch: int = 256) -> "np.ndarray":
    """Return the module's output for every sample, in eval mode: ``[N, ...]``; the mode is restored afterwards."""
    import torch

    try:
        with inference(module):
            result: np.ndarray = torch.cat([module(part) for part in to_tensor(x).split(batch)]).numpy()
            return result
    except _FORWARD_ERRORS as error:
        raise _does_not_run(module, x, error) from error


def _does_not_run(module: "torch.nn.Module", x: "np.ndarray", error: Exception) -> InputError:
    return InputError(
        f"{type(module).__name__} does not run on the samples",
        why=str(error).strip(),
        next=f"a sample is {x.dtype}{list(x.shape[1:])}: make the model take batches of it",
    )


def accuracy(module: "torch.nn.Module", x: "np.ndarray", y: "np.ndarray") -> float:
    """Top-1 accuracy (0..1) of ``module`` on samples ``[N, ...]`` and labels ``[N]``."""
    from edgepack.data import top1

    return top1(outputs(module, x), y)


def _check_classes(module: "torch.nn.Module", data: "Splits") -> None:
    from edgepack.data import top1

    scores = outputs(module, data.x_train[:2])
    top1(scores, data.y_train[:2])
    last = int(max(data.y_train.max(), data.y_test.max()))
    if last >= scores.shape[1]:
        raise InputError(
            f"label {last} has no output: the model has {scores.shape[1]} classes",
            next="give the model's last layer one output per class",
        )
