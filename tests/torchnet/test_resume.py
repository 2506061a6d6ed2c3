"""A training that was killed continues from the state of its last epoch, and ends with the same bytes."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgepack.compression.context import Context
from edgepack.compression.registry import METHODS
from edgepack.data import Splits
from edgepack.spec import Input, Train
from edgepack.torchnet.checkpoint import save
from edgepack.torchnet.objective import Objective
from edgepack.torchnet.training import train
from edgepack.torchnet.trainings import Trainings

INPUTS = (Input(name="x", shape=(1, 2, 6)),)


class Killed(BaseException):
    """The process ends here."""


class Net(nn.Module):
    """Dropout, batch normalisation, a tied weight, a buffer that is in no checkpoint and one that is infinite."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 8, 3, padding=1)
        self.norm = nn.BatchNorm1d(8)
        self.first, self.second = nn.Linear(48, 48), nn.Linear(48, 48)
        self.second.weight = self.first.weight
        self.head = nn.Linear(48, 3)
        self.register_buffer("seen", torch.zeros(()), persistent=False)
        self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))

    def forward(self, x):
        if self.training:
            self.seen += 1
        x = torch.relu(self.norm(self.conv(x))).flatten(1)
        x = functional.dropout(torch.relu(self.first(x)), 0.2 / (1 + 0.01 * self.seen.item()), self.training)
        return self.head(torch.relu(self.second(x)))


def net():
    torch.manual_seed(0)
    return Net()


def splits():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(130, 2, 6, generator=generator)
    y = x[:, 0, :3].argmax(1)
    x, y = x.numpy(), y.numpy()
    return Splits(x[:90], y[:90], x[90:], y[90:])


def killing(at):
    """A progress callback that ends the process when it has been told of ``at`` epochs."""
    left = [at]

    def progress(text, _share=None):
        left[0] -= text.startswith("epoch")
        if not left[0]:
            raise Killed

    return progress


def interrupted(work, folder, kills):
    """Do the work, killed after these numbers of epochs, and once to its end; returns what that gives, and what was said."""
    for kill in kills:
        with pytest.raises(Killed):
            work(killing(kill), Trainings(folder, every=0))
    said = []
    result = work(lambda text, _share=None: said.append(text), Trainings(folder, every=0))
    return result, said


def saved(module, path):
    save(module, path)
    return path.read_bytes()


OBJECTIVES = {
    "adam": Objective,
    "momentum": lambda: Objective(
        optimizer=lambda module, spec: torch.optim.SGD(module.parameters(), lr=spec.lr, momentum=0.9)
    ),
    "a hook that keeps nothing": lambda: Objective(
        before_step=lambda module, done: module.norm.eval() if done > 0.5 else None, state=()
    ),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_gives_the_bytes_of_a_training_that_was_not_killed(tmp_path, name):
    spec = Train(epochs=5, lr=0.01, batch_size=32, seed=3)

    def work(progress, trainings):
        module = net()
        found = train(module, splits(), spec, progress, objective=OBJECTIVES[name](), trainings=trainings)
        return saved(module, tmp_path / "trained.safetensors"), found, trainings.records

    wanted = work(lambda _text, _share: None, Trainings())
    found, said = interrupted(work, tmp_path, [2, 1, 2])
    assert said[0] == "continued after epoch 2/5"
    assert found == wanted


STEPS = {
    "prune-weights": {"ratio": 0.5, "criterion": "movement", "schedule": "gradual"},
    "train-quantized": {"weights": 4, "samples": 32},
    "distill": {
        "width": 0.5,
        "initial": "new",
        "features": [{"student": "conv"}],
    },
    "prune-channels": {"ratio": 0.5, "round_to": 1},
}


@pytest.mark.parametrize("name", STEPS)
def test_so_does_a_step_of_compression(tmp_path, name):
    """With hooks that keep masks and scores, with learned steps, with a projection outside of the module."""
    torch.manual_seed(0)
    module = nn.Sequential()
    module.conv = nn.Conv1d(2, 8, 3, padding=1)
    module.norm, module.relu, module.flat = nn.BatchNorm1d(8), nn.ReLU(), nn.Flatten()
    module.head = nn.Linear(48, 3)
    module.eval()
    method = METHODS[name].on("torch")
    options = {"method": name, "fine_tune": Train(epochs=4, lr=0.01, batch_size=32), **STEPS[name]}
    step = method.spec.model_validate(options, strict=False)

    def work(progress, trainings):
        context = Context(
            INPUTS,
            splits(),
            progress,
            teacher=lambda: copy.deepcopy(module),
            trainings=trainings,
        )
        result = method.apply(module, step, context)
        return saved(result.module, tmp_path / "step.safetensors"), result.metrics, trainings.records

    wanted = work(lambda _text, _share: None, Trainings())
    found, said = interrupted(work, tmp_path, [2, 2])
    assert "continued after epoch 2/4" in said
    assert found == wanted


def test_trainings_that_had_ended_are_not_repeated(tmp_path):
    def work(progress, trainings):
        module, found = net(), []
        for seed in (1, 2, 3):
            spec = Train(epochs=2, lr=0.01, batch_size=32, seed=seed)
            found.append(train(module, splits(), spec, progress, trainings=trainings))
        return saved(module, tmp_path / "trained.safetensors"), found, trainings.records

    wanted = work(lambda _text, _share: None, Trainings())
    found, said = interrupted(work, tmp_path, [4])
    assert found == wanted
    assert [each.split(",")[0] for each in said] == [
        "continued after epoch 2/2",
        "continued after epoch 1/2",
        "epoch 2/2",
        "epoch 1/2",
        "epoch 2/2",
    ]


def test_one_that_diverges_goes_back_to_the_same_epoch(tmp_path):
    def lesson():
        state = {"batch": 0}

        class Counter:
            def state_dict(self):
                return dict(state)

            def load_state_dict(self, given):
                state.update(given)

        def loss(batch):
            state["batch"] += 1
            found = functional.cross_entropy(batch.outputs, batch.labels)
            # Epochs of 3 batches: the loss is higher from the third epoch on, and NaN in the fifth.
            return found * float("nan") if state["batch"] == 14 else found + 9.0 * (state["batch"] > 6)

        return Objective(loss=loss, state=(Counter(),))

    def work(progress, trainings):
        module = net()
        spec = Train(epochs=8, lr=0.01, batch_size=32)
        train(module, splits(), spec, progress, objective=lesson(), trainings=trainings)
        return saved(module, tmp_path / "trained.safetensors"), trainings.records

    wanted = work(lambda _text, _share: None, Trainings())
    assert wanted[1][0].kept == 2
    found, said = interrupted(work, tmp_path, [4])
    assert said[0] == "continued after epoch 3/8"
    assert found == wanted
    again, said = interrupted(work, tmp_path, [])
    assert said == ["continued after epoch 4/8"]
    assert again == wanted


def start_over(folder, **changes):
    """Whether a second training starts over after a first one was killed."""
    spec = Train(epochs=4, lr=0.01, batch_size=32)
    (folder / "training-1.pt").unlink(missing_ok=True)

    def work(progress, trainings, *, module=None, data=None, spec=spec, objective=None):
        return train(
            module or net(), data or splits(), spec, progress, objective=objective, trainings=trainings
        )

    with pytest.raises(Killed):
        work(killing(3), Trainings(folder, every=0), objective=changes.get("objective"))
    said = []
    work(lambda text, _share: said.append(text), Trainings(folder, every=0), **changes)
    return said[0].startswith("epoch 1/")


def test_a_training_that_starts_from_something_else_starts_over(tmp_path):
    data, other = splits(), net()
    with torch.no_grad():
        other.head.bias[0] += 1
    assert not start_over(tmp_path)
    assert start_over(tmp_path, spec=Train(epochs=4, lr=0.02, batch_size=32))
    assert start_over(tmp_path, module=other)
    data.x_train[0] = 0
    assert start_over(tmp_path, data=data)


def test_one_whose_state_is_not_known_starts_over(tmp_path):
    class Own(torch.optim.SGD):
        """May keep anything."""

    assert start_over(tmp_path, objective=Objective(after_step=lambda _module, _done: None))
    own = Objective(optimizer=lambda module, spec: Own(module.parameters(), lr=spec.lr))
    assert start_over(tmp_path, objective=own)


@pytest.mark.parametrize("content", [b"", b"no state", b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."])
def test_a_file_that_is_no_state_is_not_used(tmp_path, content):
    (tmp_path / "training-1.pt").write_bytes(content)
    said = []
    train(
        net(),
        splits(),
        Train(epochs=1),
        lambda text, _share: said.append(text),
        trainings=Trainings(tmp_path, every=0),
    )
    assert said[0].startswith("epoch 1/1")


def test_states_are_written_now_and_then(tmp_path):
    for every, written in ((3600, []), (0, ["training-1.pt"])):
        train(net(), splits(), Train(epochs=2), trainings=Trainings(tmp_path, every=every))
        assert sorted(path.name for path in tmp_path.iterdir()) == written
