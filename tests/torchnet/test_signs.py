"""Weights of one and two bits, and activations of one."""

import pytest
import torch

from edgepack.torchnet.signs import SignInput, SignWeight, TernaryWeight


@pytest.mark.parametrize("kind", [SignWeight, TernaryWeight])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_stored_form_has_the_trained_values(kind, axis):
    weight = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0))
    made = kind(axis)
    assert torch.equal(made.stored(weight)(weight), made(weight))


def test_the_scale_of_signs_is_the_mean_absolute_weight():
    weight = torch.tensor([[1.0, -3.0], [0.0, 0.5]])
    assert SignWeight(0)(weight).tolist() == [[2.0, -2.0], [0.25, 0.25]]


def test_small_weights_become_zero():
    weight = torch.tensor([[1.0, -0.9, 0.1, 0.0], [0.0, 0.0, 0.0, 0.0]])  # the threshold is 0.35
    assert TernaryWeight(0)(weight).tolist() == [[pytest.approx(0.95), pytest.approx(-0.95), 0, 0], [0] * 4]


def test_gradients_pass_within_the_window_only():
    weight = torch.tensor([[0.5, -2.0]], requires_grad=True)
    (SignWeight(0)(weight) * torch.tensor([[1.0, 0.0]])).sum().backward()
    # Of the sign, times the scale of 1.25, and of the scale, which is the mean.
    assert weight.grad.tolist() == [[pytest.approx(1.25 + 0.5), pytest.approx(-0.5)]]


def test_activations_after_a_relu_get_two_values():
    values = torch.tensor([0.0, 0.0, 0.0, 0.2, 2.0, 4.0])
    made = SignInput()
    made.fit(values)
    with torch.no_grad():
        assert made(values).tolist() == [pytest.approx(0.05)] * 4 + [pytest.approx(3.0)] * 2
        assert torch.equal(made.stored()(values), made(values))


def test_constant_activations_stay_constant():
    made = SignInput()
    made.fit(torch.full((8,), 0.5))
    assert made(torch.full((2,), 0.5)).tolist() == [0.5, 0.5]
