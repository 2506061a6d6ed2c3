"""Distillation: students by name and by width, several teachers, stored outputs, inner layers, any task."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from trained_nets import Perceptron, case

from edgepack.api import check, compress
from edgepack.compression import Context
from edgepack.compression.distill import METHOD, Distill, apply
from edgepack.compression.ordering import misplaced
from edgepack.compression.registry import METHODS
from edgepack.data import Splits
from edgepack.errors import InputError
from edgepack.pipeline.stages.torch_models import rebuilders
from edgepack.spec import Input, Train
from edgepack.torchnet.checkpoint import Change, restore, save
from edgepack.torchnet.outputs import accuracy, outputs, to_tensor

CODE = """\
import torch
from torch import nn


class Small(nn.Module):
    def __init__(self, outputs=4):
        super().__init__()
        self.first = nn.Linear(16, 8)
        self.out = nn.Linear(8, outputs)

    def forward(self, x):
        return self.out(torch.relu(self.first(x.flatten(1))))


def small():
    return Small()


def other():
    return Small(3)


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(64, 24)
        self.out = nn.Linear(24, 10)

    def forward(self, x):
        return self.out(torch.relu(self.first(x.flatten(1))))


def tiny():
    return Tiny()
"""


def step(**options):
    return Distill(method="distill", **{"fine_tune": Train(epochs=2, lr=0.01), **options})


@pytest.fixture
def base(tmp_path):
    (tmp_path / "pupils.py").write_text(CODE)
    return tmp_path


def given(context, module, made, base):
    """The context of a step, with the module as the recipe's own."""
    return replace(context, teacher=lambda: copy.deepcopy(module), files=METHOD.files(made), base=base)


def test_a_student_by_name_takes_the_modules_place(base):
    module, x, context = case(Perceptron, samples=256)
    made = step(student="pupils:small", fine_tune=Train(epochs=30, lr=0.01), loss="softmax", alpha=1.0)
    result = apply(module, made, given(context, module, made, base))
    wanted, found = outputs(module, x).argmax(1), outputs(result.module, x).argmax(1)
    assert (wanted == found).mean() > 0.8
    assert result.change == {"student": "pupils:small"}
    assert result.metrics["parameters"][1] == 16 * 8 + 8 + 8 * 4 + 4
    save(result.module, base / "m.safetensors", [Change("distill", result.change)])
    known = rebuilders(base, ("pupils:small",))
    back = restore(Perceptron(), base / "m.safetensors", known).module
    assert torch.equal(back(to_tensor(x)), result.module(to_tensor(x)))


def test_a_checkpoint_does_not_decide_which_code_is_run(base):
    module, _, _ = case(Perceptron)
    save(module, base / "m.safetensors", [Change("distill", {"student": "os:getcwd"})])
    with pytest.raises(InputError, match="is built by os:getcwd, which the recipe does not name"):
        restore(Perceptron(), base / "m.safetensors", rebuilders(base, ("pupils:small",)))


def test_a_narrow_student_keeps_the_accuracy(teacher, data):
    inputs = (Input(name="image", shape=(1, 1, 8, 8)),)
    made = step(width=0.5, fine_tune=Train(epochs=6, lr=3e-3))
    context = Context(inputs, data, teacher=lambda: copy.deepcopy(teacher))
    result = apply(teacher, made, context)
    before = accuracy(teacher, data.x_test, data.y_test)
    assert accuracy(result.module, data.x_test, data.y_test) > before - 0.04
    assert result.metrics["parameters"][1] < result.metrics["parameters"][0] / 3
    assert result.change is None
    assert result.metrics["score"]["teachers"] == [result.metrics["score"]["before"]]


def test_new_weights_depend_on_the_seed_alone():
    module, x, context = case(Perceptron)
    context = replace(context, teacher=lambda: copy.deepcopy(module))
    made = step(width=0.5, initial="new")
    first, second = (apply(module, made, context).module for _ in range(2))
    assert torch.equal(first(to_tensor(x)), second(to_tensor(x)))
    third = apply(module, made.model_copy(update={"seed": 1}), context).module
    assert not torch.equal(first(to_tensor(x)), third(to_tensor(x)))
    assert first.net[0].out_features == 16


def test_stored_outputs_teach_as_the_teacher_does(base):
    module, x, context = case(Perceptron)
    made = step(student="pupils:small", alpha=1.0, loss="softmax")
    online = apply(module, made, given(context, module, made, base)).module
    np.savez(base / "answers.npz", output=outputs(module, x))
    made = made.model_copy(update={"outputs": "answers.npz"})
    offline = apply(module, made, replace(given(context, module, made, base), teacher=None)).module
    assert np.allclose(outputs(online, x), outputs(offline, x), atol=1e-4)


def test_inputs_without_labels_come_from_the_file_or_the_recipe(base):
    module, x, context = case(Perceptron)
    made = step(student="pupils:small", outputs="answers.npz")
    np.savez(base / "answers.npz", output=outputs(module, x), x=x)
    there = apply(module, made, given(replace(context, data=None), module, made, base)).module
    np.savez(base / "answers.npz", output_0=outputs(module, x))
    unlabelled = replace(context, data=None, samples={"x": x[:, None]})
    here = apply(module, made, given(unlabelled, module, made, base)).module
    assert torch.equal(here(to_tensor(x)), there(to_tensor(x)))
    np.savez(base / "answers.npz", output=outputs(module, x)[1:])
    with pytest.raises(InputError, match="output has 63 samples, and there are 64 inputs"):
        apply(module, made, given(unlabelled, module, made, base))
    np.savez(base / "answers.npz", outputs=outputs(module, x))
    with pytest.raises(InputError, match="the file holds outputs"):
        apply(module, made, given(unlabelled, module, made, base))


def test_several_teachers_and_inner_layers(base):
    module, _, context = case(Perceptron)
    save(module, base / "own.safetensors")
    (base / "elders.py").write_text("from trained_nets import Perceptron\n")
    made = step(
        width=0.5,
        teachers=(
            {"weight": 3.0},
            {"source": "elders:Perceptron", "weights": "own.safetensors"},
        ),
        features=({"student": "net.2", "weight": 0.5}, {"student": "net.5", "of": 1}),
    )
    result = apply(module, made, given(context, module, made, base))
    first, second = result.metrics["score"]["teachers"]
    assert first == second == result.metrics["score"]["before"]
    assert not any(layer._forward_hooks for layer in result.module.modules())
    wrong = made.model_copy(update={"features": (made.features[0].model_copy(update={"student": "net.22"}),)})
    with pytest.raises(InputError, match=r"no layer of Perceptron matches 'net\.22'"):
        apply(module, wrong, given(context, module, wrong, base))


def test_regression_compares_outputs_themselves(base):
    module, x, context = case(Perceptron, samples=256)
    y = outputs(module, x)
    data = Splits(x, y, x[:16], y[:16])
    made = step(student="pupils:small", fine_tune=Train(epochs=30, lr=0.01))
    result = apply(module, made, given(replace(context, data=data), module, made, base))
    error = np.square(outputs(result.module, x) - y).mean()
    assert error < 0.5 * y.var()


def test_a_student_with_other_outputs_is_refused(base):
    module, _, context = case(Perceptron)
    made = step(student="pupils:other")
    with pytest.raises(InputError, match=r"the student returns \[\[1, 3\]\]"):
        apply(module, made, given(context, module, made, base))


RECIPE = """\
edgepack: 1
name: taught
model:
  source: edgepack.zoo.digits:network
  train: {epochs: 1, lr: 0.002}
  inputs:
    - {name: image, shape: [1, 1, 8, 8]}
data:
  source: edgepack.zoo.digits:splits
compress:
  - {method: distill, student: "pupils:tiny", fine_tune: {epochs: 1}}
  - {method: train-quantized, fine_tune: {epochs: 1}}
targets:
  - {target: x86-64-v3}
"""


@pytest.mark.slow
def test_a_recipe_goes_on_with_the_student(base, monkeypatch):
    for kind in ("CACHE", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(base / kind))
    (base / "recipe.yaml").write_text(RECIPE)
    report = compress(base / "recipe.yaml")
    _, student, quantized = report.compression[:3]
    assert student.parameters == 64 * 24 + 24 + 24 * 10 + 10
    assert quantized.metrics["layers"] == {"first": [32, 8], "out": [32, 8]}
    code = (base / "pupils.py").read_text()
    (base / "pupils.py").write_text(
        code.replace("torch.relu(self.first(x.flatten(1)))", "self.first(x.flatten(1))")
    )
    again = {each.stage: each.status for each in compress(base / "recipe.yaml").stages}
    assert again["train"] == "cached"
    assert again["distill"] == again["train-quantized"] == again["export"] == "done"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ('width: 0.5, student: "pupils:tiny"', "expected one of student and width, got both"),
        ("initial: new", "a student that is not made by width has its own weights"),
        ("width: 0.5, features: [{student: stem, of: 1}]", "`of` is the number of a teacher, below 1"),
        ("width: 0.5, teachers: [{weights: pupils.py}]", "a teacher with weights needs its source"),
    ],
)
def test_options_that_contradict_each_other_are_found_by_check(base, options, message):
    text = RECIPE.replace('student: "pupils:tiny"', options)
    (base / "recipe.yaml").write_text(text)
    assert message in [problem.message for problem in check(base / "recipe.yaml")]


def test_a_student_that_throws_earlier_steps_away_is_refused_at_check():
    from edgepack.compression.binarize import Binarize

    signs = Binarize(method="binarize")
    assert [number for number, _ in misplaced([signs, step(student="pupils:small")], METHODS)] == [1]
    assert [number for number, _ in misplaced([signs, step(width=0.5)], METHODS)] == [1]
    assert not list(misplaced([signs, step()], METHODS))


def test_without_a_share_of_the_teachers_only_labels_are_learnt(base):
    module, x, context = case(Perceptron)
    made = step(student="pupils:small", alpha=0.0)
    students = []
    for scale in (1.0, 100.0):
        teacher = copy.deepcopy(module)
        with torch.no_grad():
            for each in teacher.parameters():
                each.mul_(scale)
        own = replace(given(context, module, made, base), teacher=lambda found=teacher: found)
        students.append(apply(module, made, own).module)
    assert torch.equal(students[0](to_tensor(x)), students[1](to_tensor(x)))
