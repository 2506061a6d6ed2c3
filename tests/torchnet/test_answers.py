"""Teachers of a training run once per sample where that gives the same answers, and for every batch otherwise."""

import pytest
import torch
from torch import nn

from edgepack.torchnet import answers
from edgepack.torchnet.answers import TeacherAnswers
from edgepack.torchnet.objective import Objective

SAMPLES = 600


class Counting(nn.Module):
    """A teacher that counts the samples it is given."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.seen = answer, 0
        self.layer = nn.Linear(6, 4)

    def forward(self, x, other=None):
        self.seen += len(x)
        return self.answer(self.layer(x if other is None else x + other))


def asked(teacher, inputs, epochs=3, *, constant=True):
    """Check every answer against the teacher; returns how many samples it was given in the course of the training."""
    teacher.eval()
    found = TeacherAnswers(Objective(teachers=(teacher,), constant_teachers=constant), inputs, epochs)
    seen = 0
    for epoch in range(epochs):
        order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(epoch))
        for index in order.split(128):
            (answer,) = found.of(index)
            seen, teacher.seen = seen + teacher.seen, 0
            torch.manual_seed(0)
            wanted = teacher(*(each[index] for each in inputs))
            teacher.seen = 0
            one, other = (each if isinstance(each, tuple) else (each,) for each in (answer, wanted))
            for ours, theirs in zip(one, other, strict=True):
                assert not ours.requires_grad
                assert ours.shape == theirs.shape
                if not getattr(teacher, "random", False):
                    assert torch.allclose(ours, theirs, atol=1e-6)
    return seen


def inputs(count=1):
    torch.manual_seed(1)
    return tuple(torch.randn(SAMPLES, 6) for _ in range(count))


@pytest.mark.parametrize("answer", [torch.relu, lambda x: (x, x.sum(1)), lambda x: (x[:, :0], x.argmax(1))])
def test_a_teacher_runs_once_per_sample(answer):
    once = SAMPLES + 256  # the first batch twice, to see whether answers are random
    assert asked(Counting(answer), inputs()) == once
    assert asked(Counting(answer), inputs(2)) == once


def test_a_teacher_whose_answers_the_training_may_change_runs_for_every_batch():
    assert asked(Counting(torch.relu), inputs(), constant=False) == 3 * SAMPLES
    assert asked(Counting(torch.relu), inputs(), epochs=1) == SAMPLES


def test_answers_that_are_random_differ_in_every_epoch():
    teacher = Counting(lambda x: x + torch.randn_like(x))
    teacher.random = True
    assert asked(teacher, inputs()) > 3 * SAMPLES


def test_outputs_that_are_not_one_per_sample_are_not_stored():
    assert asked(Counting(lambda x: (x, x.mean())), inputs()) > 3 * SAMPLES
    assert asked(Counting(lambda x: x.T), inputs()) > 3 * SAMPLES


def test_answers_that_do_not_fit_into_memory_are_not_stored(monkeypatch):
    monkeypatch.setattr(answers, "MOST_BYTES", SAMPLES * 4 * 4 - 1)
    assert asked(Counting(torch.relu), inputs()) > 3 * SAMPLES
    monkeypatch.setattr(answers, "MOST_BYTES", SAMPLES * 4 * 4)
    assert asked(Counting(torch.relu), inputs()) < 2 * SAMPLES
