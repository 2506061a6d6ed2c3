"""Which kernels decode their weights, by kind of CPU: the measurements in docs/encodings.md."""

import math

import pytest

from edgepack.config.target import load_target
from edgepack.lower.graph.gains import Use, kind_of, pays


def convolution(taps, inputs, outputs, size):
    sums = inputs * taps * taps
    return Use("convolution", sums, (1, size, size), 4 * sums * outputs)


def product(inputs, outputs, rows):
    return Use("product", inputs, (rows,), 4 * inputs * outputs)


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("x86-64-v2", "sse4.2"),
        ("x86-64-v3", "avx2"),
        ("x86-64-v4", "avx512f"),
        ("rpi4", "neon"),
        ("rpi5", "neon"),
    ],
)
def test_kinds_of_cpu_are_told_apart_by_their_features(target, kind):
    assert kind_of(load_target(target)) == kind


AVX2 = {
    convolution(1, 16, 96, 56): True,
    convolution(3, 3, 32, 56): True,
    convolution(1, 16, 96, 112): False,
    convolution(1, 32, 64, 28): False,
    convolution(1, 128, 128, 28): False,
    convolution(1, 96, 576, 14): False,
    convolution(1, 144, 24, 56): False,
    convolution(3, 64, 64, 28): False,
    convolution(3, 32, 32, 32): False,
    convolution(1, 512, 512, 14): False,
    convolution(1, 512, 512, 7): True,
    convolution(3, 64, 64, 7): True,
    convolution(3, 256, 256, 7): True,
    convolution(1, 64, 64, 7): False,
    product(64, 32, 1): True,
    product(1024, 1024, 1): True,
    product(128, 512, 8): False,
    product(128, 512, 128): False,
}


@pytest.mark.parametrize("use", AVX2, ids=str)
def test_on_avx2_only_what_was_measured_to_gain_is_taken(use):
    assert pays(use, load_target("x86-64-v3")) is AVX2[use]


AVX512 = {
    convolution(1, 128, 128, 28): True,
    convolution(3, 64, 64, 7): True,
    convolution(3, 64, 64, 5): False,
    product(1024, 1024, 1): True,
    product(128, 512, 128): True,
    product(128, 512, 5): False,
}


@pytest.mark.parametrize("use", AVX512, ids=str)
def test_on_avx512_widening_is_hidden_by_reuse(use):
    assert pays(use, load_target("x86-64-v4")) is AVX512[use]


@pytest.mark.parametrize("use", AVX2, ids=str)
def test_on_sse42_nothing_gains(use):
    assert not pays(use, load_target("x86-64-v2"))


def test_on_neon_only_a_single_use_of_weights_beyond_the_caches_is_taken():
    rpi4 = load_target("rpi4")
    outputs = math.ceil(1024 * (rpi4.cpu.l3_kib or rpi4.cpu.l2_kib) / 4 / 256)
    assert not pays(product(256, outputs, 1), rpi4)
    assert pays(product(256, outputs + 1, 1), rpi4)
    assert not pays(product(256, outputs + 1, 8), rpi4)
    assert not pays(convolution(1, 128, 128, 28), rpi4)


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "rpi4"])
def test_an_embedding_is_taken_everywhere(target):
    assert pays(Use("embedding", 1, (), 4000), load_target(target))
