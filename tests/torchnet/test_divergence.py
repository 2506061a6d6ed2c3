"""A training whose values become NaN or infinite ends with the weights of an epoch before, and says so."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgepack.compression.context import Context
from edgepack.data import Splits
from edgepack.errors import InputError
from edgepack.spec import Input, Train
from edgepack.torchnet.objective import Objective
from edgepack.torchnet.training import train
from edgepack.torchnet.trainings import Trainings

SPEC = Train(epochs=6, lr=0.01, batch_size=50, seed=7)  # of two batches each


def splits():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(140, 5, generator=generator)
    y = x[:, :3].argmax(1)
    x, y = x.numpy(), y.numpy()
    return Splits(x[:100], y[:100], x[100:], y[100:])


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))


class Lesson:
    """Cross-entropy, and something else at one batch."""

    def __init__(self, at, change):
        self.at, self.change, self.batches = at, change, 0

    def __call__(self, batch):
        self.batches += 1
        loss = functional.cross_entropy(batch.outputs, batch.labels)
        return self.change(loss) if self.batches == self.at else loss


def weights_after_each_epoch(spec, objective):
    """The weights after every epoch, from a training that goes well."""
    module, seen = net(), []
    train(
        module,
        splits(),
        spec,
        lambda _text, _share: seen.append({name: v.clone() for name, v in module.state_dict().items()}),
        objective=objective,
    )
    return seen


def same(module, weights):
    return all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda loss: loss * float("nan"), "the loss became nan in epoch 4"),
        (lambda loss: loss * float("inf"), "the loss became inf in epoch 4"),
        # Finite, but its gradient is not.
        (lambda loss: loss + (loss * 0).abs().sqrt(), "0.weight became NaN or infinite in epoch 4"),
    ],
)
def test_it_ends_with_the_epoch_of_the_lowest_loss(change, what):
    wanted = weights_after_each_epoch(SPEC, Objective(loss=Lesson(0, None)))[2]
    module, trainings, said = net(), Trainings(), []
    metrics = train(
        module,
        splits(),
        SPEC,
        lambda text, _share: said.append(text),
        objective=Objective(loss=Lesson(8, change)),
        trainings=trainings,
    )
    assert same(module, wanted)
    assert not module.training
    (record,) = trainings.records
    assert (record.epochs, record.kept, record.seed, record.diverged) == (6, 3, 7, what)
    assert metrics["loss"] == record.loss
    assert metrics["train_accuracy"] > 0.35
    assert record.warning.startswith(f"training diverged: {what} of 6; the weights after epoch 3 are kept")
    assert said[-1] == f"{what}: the weights after epoch 3 are kept"


def test_the_lowest_loss_need_not_be_that_of_the_last_epoch():
    def objective(at):
        steps = Lesson(at, lambda loss: loss * float("nan"))
        # From epoch 3 on, a constant makes the loss higher; the weights learn as before.
        return Objective(loss=lambda batch: steps(batch) + 9.0 * (steps.batches > 4))

    wanted = weights_after_each_epoch(SPEC, objective(0))[1]
    module, trainings = net(), Trainings()
    train(module, splits(), SPEC, objective=objective(9), trainings=trainings)
    assert trainings.records[0].kept == 2
    assert same(module, wanted)


def test_a_training_that_does_not_diverge_ends_with_its_last_epoch():
    steps = Lesson(0, None)
    rising = Objective(loss=lambda batch: steps(batch) + 9.0 * (steps.batches > 4))
    wanted = weights_after_each_epoch(SPEC, rising)[-1]
    steps.batches, module, trainings = 0, net(), Trainings()
    metrics = train(module, splits(), SPEC, objective=rising, trainings=trainings)
    (record,) = trainings.records
    assert (record.kept, record.loss, record.diverged, record.warning) == (6, metrics["loss"], None, None)
    assert same(module, wanted)


def test_with_a_schedule_it_is_the_last_epoch_whose_values_are_finite():
    lesson = Lesson(9, lambda loss: loss * float("nan"))
    rising = Objective(
        loss=lambda batch: lesson(batch) + lesson.batches, before_step=lambda _module, _done: None
    )
    trainings = Trainings()
    train(net(), splits(), SPEC, objective=rising, trainings=trainings)
    assert trainings.records[0].kept == 4


def test_what_hooks_keep_goes_back_with_the_weights():
    class Counter:
        steps = 0

        def state_dict(self):
            return {"steps": self.steps}

        def load_state_dict(self, state):
            self.steps = state["steps"]

        def __call__(self, _module, _done):
            self.steps += 1

    counter = Counter()
    objective = Objective(
        loss=Lesson(8, lambda loss: loss * float("nan")), after_step=counter, state=(counter,)
    )
    train(net(), splits(), SPEC, objective=objective)
    assert counter.steps == 6


def test_parameters_outside_of_the_module_go_back_too():
    scale = nn.Parameter(torch.ones(()))
    lesson = Lesson(8, lambda loss: loss * float("nan"))
    seen = []

    def optimizer(module, spec):
        return torch.optim.SGD([*module.parameters(), scale], lr=spec.lr)

    objective = Objective(
        loss=lambda batch: lesson(replace(batch, outputs=batch.outputs * scale)), optimizer=optimizer
    )
    trainings = Trainings()
    train(
        net(),
        splits(),
        SPEC,
        lambda _text, _share: seen.append(scale.item()),
        objective=objective,
        trainings=trainings,
    )
    assert scale.item() == seen[trainings.records[0].kept - 1] == seen[3]
    assert scale.item() != 1


def test_infinite_constants_such_as_masks_are_no_divergence():
    module = net()
    module.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    trainings = Trainings()
    train(module, splits(), SPEC, trainings=trainings)
    assert trainings.records[0].diverged is None


def test_in_the_first_epoch_there_is_nothing_to_go_back_to():
    with pytest.raises(InputError, match="the loss became nan in epoch 1") as caught:
        train(
            net(),
            splits(),
            SPEC,
            objective=Objective(loss=Lesson(2, lambda loss: loss * float("nan"))),
        )
    assert "lower lr" in caught.value.next


def test_a_step_of_compression_records_it():
    trainings = Trainings()
    context = Context((Input(name="x", shape=(1, 5)),), splits(), trainings=trainings)
    context.train(net(), SPEC, Objective(loss=Lesson(4, lambda loss: loss * float("nan"))))
    context.train(net(), Train(epochs=1, seed=2))
    assert [(each.seed, each.kept) for each in trainings.records] == [(7, 1), (2, 1)]
