"""Losses of a student: of outputs, features and attention maps."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgepack.errors import InputError
from edgepack.torchnet.teaching import Comparison, Pair, Watched, inner_loss, output_loss, projections


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


SOFT = Comparison((1.0,), "softmax", 4.0)


def test_the_soft_loss_is_the_divergence_at_a_temperature():
    ours, theirs = draw(6, 5), draw(6, 5, seed=1)
    wanted = functional.kl_div((ours / 4).log_softmax(1), (theirs / 4).softmax(1), reduction="batchmean")
    assert output_loss(ours, [theirs], SOFT, []).item() == pytest.approx(16 * wanted.item(), rel=1e-5)
    assert output_loss(ours, [ours], SOFT, []).item() == pytest.approx(0, abs=1e-6)


def test_classes_may_be_on_the_last_axis():
    ours, theirs = draw(2, 7, 5), draw(2, 7, 5, seed=1)
    flat = output_loss(ours.reshape(14, 5), [theirs.reshape(14, 5)], SOFT, [1])
    assert output_loss(ours, [theirs], SOFT, [2]).item() == pytest.approx(flat.item(), rel=1e-5)


def test_a_single_logit_is_that_of_class_1():
    ours, theirs = draw(6), draw(6, seed=1)
    both = [torch.stack([torch.zeros(6), each], 1) for each in (ours, theirs)]
    wanted = output_loss(both[0], both[1:], SOFT, [])
    for shape in ((6,), (6, 1)):
        found = output_loss(ours.reshape(shape), [theirs.reshape(shape)], SOFT, [])
        assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_teachers_are_mixed_by_weight():
    ours, first, second = draw(6, 5), draw(6, 5, seed=1), draw(6, 5, seed=2)
    how = Comparison((0.75, 0.25), "mse", 1.0)
    wanted = functional.mse_loss(ours, 0.75 * first + 0.25 * second)
    assert output_loss(ours, [first, second], how, []).item() == pytest.approx(wanted.item())
    soft = Comparison((0.75, 0.25), "softmax", 1.0)
    mixed = (0.75 * first.softmax(1) + 0.25 * second.softmax(1)).log()
    assert output_loss(mixed, [first, second], soft, []).item() == pytest.approx(0, abs=1e-6)


def test_several_outputs_are_summed_and_other_shapes_refused():
    how = Comparison((1.0,), "mse", 1.0)
    ours, theirs = (draw(3, 2), draw(3, 4)), (draw(3, 2, seed=1), draw(3, 4, seed=2))
    wanted = sum(functional.mse_loss(a, b) for a, b in zip(ours, theirs, strict=True))
    assert output_loss(ours, [theirs], how, []).item() == pytest.approx(wanted.item())
    with pytest.raises(InputError, match="the student has 2 outputs, its teacher 1"):
        output_loss(ours, [theirs[0]], how, [])
    with pytest.raises(InputError, match=r"is \[3, 2\], of its teacher \[3, 4\]"):
        output_loss(ours[0], [theirs[1]], how, [])


class Net(nn.Module):
    def __init__(self, channels, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(1, channels, 3, stride, 1)
        self.fc = nn.Linear(channels, 2)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


@pytest.mark.parametrize("kind", ["features", "attention"])
@pytest.mark.parametrize("stride", [1, 2])
def test_inner_values_of_other_sizes_are_compared_and_can_be_learned(kind, stride):
    torch.set_num_threads(1)  # small layers: threads cost more than they bring
    torch.manual_seed(0)
    student, teacher, x = Net(3, stride), Net(5), draw(4, 1, 8, 8)
    pairs = [Pair(kind, "conv", "conv", 0, 1.0)]
    watched = Watched.of(student, [teacher], pairs)
    student(x), teacher(x)
    maps = projections(watched, pairs, 0)
    optimizer = torch.optim.Adam([*student.parameters(), *maps.parameters()], lr=0.05)
    losses = []
    for _ in range(40):
        with torch.no_grad():
            teacher(x)
        student(x)
        losses.append(inner_loss(watched, pairs, maps))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1].item() < 0.5 * losses[0].item()
    watched.close()
    assert not student.conv._forward_hooks


def test_equal_values_cost_nothing():
    teacher, x = Net(4), draw(2, 1, 8, 8)
    pairs = [Pair(kind, "conv", "conv", 0, 2.0) for kind in ("features", "attention")]
    watched = Watched.of(teacher, [teacher], pairs)
    teacher(x)
    maps = projections(watched, pairs, 0)
    assert not list(maps.parameters())
    assert inner_loss(watched, pairs, maps).item() == 0


def test_layers_without_maps_are_refused():
    pairs = [Pair("attention", "fc", "fc", 0, 1.0)]
    teacher = Net(4)
    watched = Watched.of(teacher, [teacher], pairs)
    teacher(draw(2, 1, 8, 8))
    with pytest.raises(InputError, match="the values of 'fc' are"):
        projections(watched, pairs, 0)
