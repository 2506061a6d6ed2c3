"""Training: convergence, reproducibility, errors."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgepack.data import Splits
from edgepack.errors import InputError
from edgepack.spec import Train
from edgepack.torchnet.objective import Objective
from edgepack.torchnet.outputs import accuracy, to_tensor
from edgepack.torchnet.training import train
from edgepack.zoo import digits


def tiny(samples=130, classes=3, width=5):
    generator = np.random.default_rng(0)
    y = generator.integers(0, classes, samples)
    x = (generator.standard_normal((samples, width)) + 3 * np.eye(width)[y]).astype("float32")
    return Splits(x[:100], y[:100], x[100:], y[100:])


def mlp(width=5, classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, classes))


def test_the_digits_network_learns_digits(teacher, teacher_metrics, data):
    assert teacher_metrics["test_accuracy"] >= 0.97
    assert accuracy(teacher, data.x_test, data.y_test) == teacher_metrics["test_accuracy"]
    assert not teacher.training


def test_the_zoo_network_is_of_the_documented_size():
    assert sum(p.numel() for p in digits.network().parameters()) == 59_082


def test_the_same_seed_gives_the_same_weights_and_leaves_the_callers_random_state_alone():
    runs = []
    for seed in (1, 1, 2):
        module = mlp()
        state = torch.random.get_rng_state()
        train(module, tiny(), Train(epochs=2, seed=seed))
        assert torch.equal(torch.random.get_rng_state(), state)
        runs.append(module[0].weight)
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_a_last_batch_of_one_sample_does_not_break_batch_normalisation():
    data = tiny()
    one_over = dataclasses.replace(data, x_train=data.x_train[:65], y_train=data.y_train[:65])
    assert train(mlp(), one_over, Train(epochs=1, batch_size=64))["loss"] > 0


def test_progress_counts_epochs():
    seen = []
    train(mlp(), tiny(), Train(epochs=3), lambda text, share: seen.append((text.split(",")[0], share)))
    assert seen == [("epoch 1/3", 1 / 3), ("epoch 2/3", 2 / 3), ("epoch 3/3", 1.0)]


def test_a_loss_that_is_not_a_number_names_the_learning_rate():
    with pytest.raises(InputError, match=r"the loss became nan in epoch \d+") as caught:
        train(mlp(), tiny(), Train(epochs=3, lr=1e30))
    assert "1e+30" in caught.value.why


def test_a_label_without_an_output_is_refused():
    with pytest.raises(InputError, match="label 2 has no output: the model has 2 classes"):
        train(mlp(classes=2), tiny(), Train(epochs=1))


def test_samples_the_model_cannot_take_are_refused():
    with pytest.raises(InputError, match="does not run on the samples") as caught:
        accuracy(mlp(), np.zeros((3, 4), "float32"), np.zeros(3, "int64"))
    assert "float32[4]" in caught.value.next


def test_a_batch_the_model_cannot_take_is_refused_in_training_too():
    with pytest.raises(InputError, match="does not run on the samples") as caught:
        train(mlp(), tiny(), Train(epochs=1, batch_size=1))
    assert "more than 1 value per channel" in caught.value.why


def test_measuring_leaves_every_layer_in_its_mode():
    module = mlp().train()
    module[1].eval()
    accuracy(module, tiny().x_test, tiny().y_test)
    assert (module.training, module[0].training, module[1].training) == (True, True, False)


@pytest.mark.parametrize(
    ("given", "taken"),
    [("float64", torch.float32), ("uint8", torch.float32), ("int32", torch.int64), ("int64", torch.int64)],
)
def test_pixels_become_floats_and_token_ids_integers(given, taken):
    assert to_tensor(np.ones((1, 2), given)).dtype == taken


def test_a_teacher_can_be_what_is_learnt_from():
    data = tiny()
    teacher = mlp().eval()
    with torch.no_grad():
        taught = teacher(to_tensor(data.x_train))
    student = nn.Linear(5, 3)
    seen = []

    def loss(batch):
        seen.append(batch.labels.dtype)
        return functional.mse_loss(batch.outputs, batch.teachers[0])

    before = functional.mse_loss(student(to_tensor(data.x_train)), taught).item()
    got = train(student, data, Train(epochs=60, lr=0.02), objective=Objective(loss=loss, teachers=(teacher,)))
    assert got["loss"] < before / 2
    assert set(seen) == {torch.int64}
    assert all(p.grad is None for p in teacher.parameters())


def test_a_regulariser_pulls_where_the_loss_does_not():
    def small(module):
        return sum(p.abs().sum() for p in module.parameters())

    norms = []
    for regulariser in (None, small):
        module = mlp()
        train(module, tiny(), Train(epochs=5, lr=0.01), objective=Objective(regulariser=regulariser))
        norms.append(small(module).item())
    assert norms[1] < norms[0] * 0.9


def test_hooks_see_the_share_of_steps_and_may_change_weights():
    shares = {"before": [], "after": []}

    def after(module, share):
        shares["after"].append(share)
        with torch.no_grad():
            module[0].weight[0] = 0

    module = mlp()
    objective = Objective(before_step=lambda _, share: shares["before"].append(share), after_step=after)
    train(module, tiny(), Train(epochs=2, batch_size=50), objective=objective)
    assert shares == {"before": [0, 0.25, 0.5, 0.75], "after": [0.25, 0.5, 0.75, 1.0]}
    assert (module[0].weight[0] == 0).all()


def test_an_objective_that_does_not_classify_needs_no_class_for_a_label():
    module = nn.Linear(5, 1)
    objective = Objective(loss=lambda batch: batch.outputs.square().mean(), classifies=False)
    assert set(train(module, tiny(), Train(epochs=1), objective=objective)) == {"loss"}
    with pytest.raises(InputError, match="label 2 has no output"):
        train(module, tiny(), Train(epochs=1))


def test_several_teachers_are_learnt_from_together():
    data = tiny()
    teachers = (mlp().eval(), mlp().eval())
    seen = []

    def loss(batch):
        seen.append(len(batch.teachers))
        return sum(functional.mse_loss(batch.outputs, taught) for taught in batch.teachers)

    train(mlp(), data, Train(epochs=1), objective=Objective(loss=loss, teachers=teachers))
    assert set(seen) == {2}


def test_the_optimizer_and_its_groups_are_the_objectives():
    """The first layer is frozen, the last has its own learning rate, and a parameter outside the module is trained too."""
    data, module = tiny(), mlp()
    before = [p.detach().clone() for p in module.parameters()]
    temperature = torch.nn.Parameter(torch.ones(()))
    rates = []

    def optimizer(module, spec):
        last = list(module.children())[-1]
        made = torch.optim.SGD(
            [{"params": last.parameters(), "lr": 10 * spec.lr}, {"params": [temperature]}], lr=spec.lr
        )
        rates.extend(group["lr"] for group in made.param_groups)
        return made

    def loss(batch):
        return functional.cross_entropy(batch.outputs * temperature, batch.labels)

    train(module, data, Train(epochs=2, lr=0.01), objective=Objective(loss=loss, optimizer=optimizer))
    assert rates == pytest.approx([0.1, 0.01])
    changed = [not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True)]
    assert changed == [False] * (len(changed) - 2) + [True, True]
    assert temperature.item() != 1
