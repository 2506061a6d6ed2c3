"""Two linear operators as one: the same result, or a reason why there is none."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgepack.compression.folding.linear import Linear, in_sequence, macs, summed

READ = (2, 4, 9, 8)


def affine(rng, *, shifts=True, axis=1, channels=4):
    return Linear("affine", rng.uniform(0.5, 2, channels), rng.standard_normal(channels) * shifts, axis)


def conv(rng, kernel, *, ci=4, co=4, stride=1, pads=0, dilation=1, groups=1, bias=True, kind="conv"):
    two = (kernel, kernel) if isinstance(kernel, int) else kernel
    shape = (ci, co // groups, *two) if kind == "deconv" else (co, ci // groups, *two)
    pads = (pads, pads) if isinstance(pads, int) else pads
    weight, shift = rng.standard_normal(shape), rng.standard_normal(co) * bias
    extra = (0, 0) if kind == "deconv" else ()
    return Linear(
        kind, weight, shift, strides=(stride, stride), begins=pads, ends=pads, dilations=(dilation, dilation),
        groups=groups, extra=extra,
    )  # fmt: skip


def matmul(rng, ci=4, co=4):
    return Linear("matmul", rng.standard_normal((ci, co)), rng.standard_normal(co), axis=1)


def run(operator, x):
    weight, bias = torch.from_numpy(operator.weight.copy()), torch.from_numpy(operator.bias.copy())
    if operator.kind == "affine":
        shape = [-1 if i == operator.axis else 1 for i in range(x.dim())]
        return x * weight.reshape(shape if len(weight) > 1 else []) + bias.reshape(
            shape if len(bias) > 1 else []
        )
    if operator.kind == "matmul":
        return x @ weight + bias
    stride, dilation, groups = operator.strides, operator.dilations, operator.groups
    if operator.kind == "deconv":
        return functional.conv_transpose2d(x, weight, bias, stride, operator.begins, 0, groups, dilation)
    (top, left), (bottom, right) = operator.begins, operator.ends
    return functional.conv2d(
        functional.pad(x, (left, right, top, bottom)), weight, bias, stride, 0, dilation, groups
    )


SEQUENCES = [
    (affine, lambda r: conv(r, 3)),
    (lambda r: affine(r, shifts=False), lambda r: conv(r, 3, pads=1, groups=2, stride=2)),
    (lambda r: conv(r, 3, pads=1, groups=2, stride=2), affine),
    (lambda r: conv(r, 3, groups=2, kind="deconv", stride=2), affine),
    (lambda r: affine(r, shifts=False), lambda r: conv(r, 3, groups=2, kind="deconv", stride=2)),
    (affine, lambda r: conv(r, 1, groups=2, kind="deconv")),
    (affine, affine),
    (affine, lambda _: Linear("affine", np.array([-2.0]), np.array([1.0]), None)),
    (lambda r: conv(r, 1, co=7), lambda r: conv(r, 1, ci=7)),
    (lambda r: conv(r, 3, pads=1, stride=2), lambda r: conv(r, 1, co=6, stride=2)),
    (lambda r: conv(r, 3, pads=1, dilation=2), lambda r: conv(r, 1, co=6)),
    (lambda r: conv(r, 1, co=6, bias=False), lambda r: conv(r, 3, ci=6, pads=1)),
    (lambda r: conv(r, 1, co=6), lambda r: conv(r, 3, ci=6, dilation=2)),
    (lambda r: conv(r, 1, co=6, stride=2, pads=1), lambda r: conv(r, 3, ci=6)),
    (lambda r: conv(r, 3, stride=2, pads=1), lambda r: conv(r, 3)),
    (lambda r: conv(r, (3, 1), pads=(1, 0)), lambda r: conv(r, (1, 3))),
    (lambda r: conv(r, 3, kind="deconv", stride=2, co=5), lambda r: conv(r, 1, ci=5)),
    (lambda r: conv(r, 1, co=5, bias=False), lambda r: conv(r, 3, ci=5, kind="deconv", stride=2)),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(SEQUENCES)))
def test_two_in_sequence_compute_what_one_does(number):
    rng = np.random.default_rng(number)
    first, second = (make(rng) for make in SEQUENCES[number])
    both = in_sequence(first, second)
    x = torch.from_numpy(rng.standard_normal(READ))
    assert torch.allclose(run(both, x), run(second, run(first, x)), atol=1e-9)


def test_products_of_matrices():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((3, 4)))
    scale = affine(rng)
    for first, second in itertools.permutations([matmul(rng), scale, matmul(rng)], 2):
        both = in_sequence(first, second)
        assert torch.allclose(run(both, x), run(second, run(first, x)), atol=1e-9)


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (affine, lambda r: conv(r, 3, pads=1), "the zeros of its padding are not shifted"),
        (affine, lambda r: conv(r, 3, kind="deconv"), "sum different numbers of shifts"),
        (lambda r: affine(r, axis=3, channels=8), lambda r: conv(r, 1), "scale along another axis"),
        (lambda r: conv(r, 3), lambda r: conv(r, 3, pads=1), "reads zeros around the output of the first"),
        (lambda r: conv(r, 1), lambda r: conv(r, 3, pads=1), "reads zeros around the output of the first"),
        (lambda r: conv(r, 1, stride=2, bias=False), lambda r: conv(r, 3, pads=1), "reads zeros around"),
        (lambda r: conv(r, 3, groups=4), lambda r: conv(r, 1), "channels are in groups"),
        (lambda r: conv(r, 3, dilation=2), lambda r: conv(r, 3), "their taps are apart"),
        (lambda r: conv(r, 3), lambda r: conv(r, 3, kind="deconv"), "transposed convolution"),
        (matmul, lambda r: conv(r, 1), "one is a convolution"),
    ],
)
def test_what_is_not_exact_is_refused(first, second, why):
    rng = np.random.default_rng(0)
    assert why in in_sequence(first(rng), second(rng))


BRANCHES = [
    (lambda r: conv(r, 3, pads=1), lambda r: conv(r, 1)),
    (lambda r: conv(r, 3, pads=1, stride=2, groups=2), lambda r: conv(r, 1, stride=2, groups=2)),
    (lambda r: conv(r, 3, pads=1), affine),
    (lambda r: conv(r, 3, pads=1, groups=4), lambda _: Linear("affine", np.ones(1), np.zeros(1), None)),
    (lambda r: conv(r, (3, 1), pads=(1, 0)), lambda r: conv(r, (1, 3), pads=(0, 1))),
    (lambda r: conv(r, 5, pads=2), lambda r: conv(r, 3, pads=1)),
    (lambda r: conv(r, 3, pads=2, dilation=2), lambda r: conv(r, 1)),
    (lambda r: conv(r, 3, kind="deconv", stride=2), lambda r: conv(r, 3, kind="deconv", stride=2)),
    (affine, lambda _: Linear("affine", np.ones(1), np.zeros(1), None)),
]


@pytest.mark.parametrize("number", range(len(BRANCHES)))
def test_two_branches_compute_what_one_operator_does(number):
    rng = np.random.default_rng(number)
    a, b = (make(rng) for make in BRANCHES[number])
    x = torch.from_numpy(rng.standard_normal(READ))
    want = run(a, x) + run(b, x)
    for pair in ((a, b), (b, a)):
        both = summed(*pair, READ, tuple(want.shape))
        assert torch.allclose(run(both, x), want, atol=1e-9)
    if number == 0:
        assert macs(both, READ, tuple(want.shape)) == want.numel() * 36


def test_branches_that_do_not_line_up_are_refused():
    rng = np.random.default_rng(0)
    cases = [
        (conv(rng, 3, pads=1), conv(rng, 1, groups=2), "strides or groups"),
        (conv(rng, 3, pads=3, dilation=3), conv(rng, 3, pads=1), "taps are apart"),
        (conv(rng, 3, pads=1, stride=2), affine(rng), "moves positions"),
        (conv(rng, 3, pads=1), matmul(rng), "different kinds"),
    ]
    for a, b, why in cases:
        assert why in summed(a, b, READ, (2, 4, 9, 8))
