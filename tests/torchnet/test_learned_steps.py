"""Quantizers with learned steps."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.torchnet.learned_steps import QuantizedInput, QuantizedWeight, fitted_step, weight_levels
from edgepack.torchnet.stored import stored_name


def quantized(weight, bits=4, axis=0):
    made = QuantizedWeight(bits, axis, weight.shape[axis])
    made.fit(weight)
    return made


@settings(deadline=None, max_examples=30)
@given(st.sampled_from([2, 3, 4, 8]), st.sampled_from([0, 1]), st.integers(0, 10))
def test_the_stored_form_has_the_trained_values(bits, axis, seed):
    weight = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(seed))
    made = quantized(weight, bits, axis)
    stored = made.stored(weight)
    assert torch.equal(stored(weight), made(weight))
    assert stored.elements.dtype == torch.int8
    assert int(stored.elements.abs().max()) <= weight_levels(bits)


@settings(deadline=None, max_examples=30)
@given(st.floats(-3, 3), st.floats(0.1, 5), st.integers(0, 10))
def test_the_stored_input_has_the_trained_values(offset, width, seed):
    values = torch.randn(500, generator=torch.Generator().manual_seed(seed)) * width + offset
    rounding = QuantizedInput()
    rounding.fit(values)
    assert torch.equal(rounding.stored()(values), rounding(values))
    assert not rounding(torch.zeros(1)).any()


def test_more_bits_are_closer():
    weight = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    errors = [(quantized(weight, bits)(weight) - weight).square().sum().item() for bits in (2, 3, 4, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02


def test_the_fitted_step_is_no_worse_than_that_of_the_largest_value():
    rows = torch.randn(4, 200, generator=torch.Generator().manual_seed(1))
    step = fitted_step(rows, -7, 7)
    largest = rows.abs().amax(1) / 7

    def error(each):
        return ((rows / each[:, None]).round().clamp(-7, 7) * each[:, None] - rows).square().sum(1)

    assert (error(step) <= error(largest)).all()
    assert (step < largest).any()


def test_gradients_are_those_of_the_paper():
    weight = torch.tensor([[0.3, 2.0, -0.9]], requires_grad=True)
    made = QuantizedWeight(2, 0, 1)  # levels -1, 0, 1 with step 1
    made(weight).sum().backward()
    assert weight.grad.tolist() == [[1.0, 0.0, 1.0]]  # none beyond the range
    inside = (0 - 0.3) + (-1 + 0.9)
    expected = (inside + 1) / math.sqrt(3 * 1)  # the clipped element contributes its level
    assert float(made.log_step.grad) == pytest.approx(expected)


def test_weights_that_are_all_zero_stay_so():
    weight = torch.zeros(2, 3)
    assert torch.equal(quantized(weight)(weight), weight)


def test_names_in_the_file():
    assert stored_name("stem.0.parametrizations.weight.0.elements") == "stem.0.weight"
    assert stored_name("parametrizations.weight.1.scale") == "weight.scale"
    assert stored_name("stem.0.bias") == "stem.0.bias"
