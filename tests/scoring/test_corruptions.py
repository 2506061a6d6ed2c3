"""Corruptions: always the same, in the samples' own form and range, and stronger with their severity."""

import numpy as np
import pytest

from edgepack.scoring.corruptions import CORRUPTIONS, SEVERITIES, corrupt, kind_of

RNG = np.random.default_rng(0)
PHASES, ROWS, COLUMNS = RNG.random((20, 1, 1, 1)), np.arange(16)[:, None], np.arange(16)
SAMPLES = {
    "images": (0.5 + 0.25 * np.sin(PHASES + ROWS / 2) + 0.25 * np.cos(COLUMNS / 3)).astype("float32"),
    "tokens": np.pad(RNG.integers(1, 50, (30, 20)), ((0, 0), (0, 6))),
    "numbers": RNG.standard_normal((40, 16)).astype("float32"),
}
CASES = [(kind, name) for kind, names in CORRUPTIONS.items() for name in names]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_corruption_keeps_form_and_range_and_grows(kind, name):
    x = SAMPLES[kind]
    assert kind_of(x) == kind
    results = [corrupt(x, name, severity) for severity in SEVERITIES]
    changes = []
    for severity, found in zip(SEVERITIES, results, strict=True):
        assert (found.shape, found.dtype) == (x.shape, x.dtype)
        assert found.min() >= x.min() - 1e-6
        assert found.max() <= x.max() + 1e-6
        assert np.array_equal(found, corrupt(x, name, severity))
        changes.append(np.abs(found.astype(float) - x).mean() if kind != "tokens" else (found != x).mean())
    assert changes[0] > 0
    assert changes[-1] > changes[0]


def test_layouts_and_pixels_as_bytes_are_corrupted_alike():
    x = (SAMPLES["images"] * 255).round()
    as_bytes = corrupt(x.astype("uint8"), "contrast", 3)
    assert as_bytes.dtype == np.uint8
    assert np.abs(as_bytes - corrupt(x, "contrast", 3)).max() <= 0.5
    last = np.moveaxis(SAMPLES["images"], 1, -1)
    assert np.allclose(np.moveaxis(corrupt(last, "blur", 2), -1, 1), corrupt(SAMPLES["images"], "blur", 2))


def test_tokens_keep_their_padding():
    x = SAMPLES["tokens"]
    assert (corrupt(x, "replace", 5)[:, 20:] == 0).all()
    dropped = corrupt(x, "drop", 5)
    for before, after in zip(x, dropped, strict=True):
        rest = iter(before[before != 0])
        assert all(token in rest for token in after[after != 0]), "the tokens that are left keep their order"
    swapped = corrupt(x, "swap", 5)
    assert np.array_equal(np.sort(swapped, axis=1), np.sort(x, axis=1))


def test_what_cannot_be_corrupted():
    assert kind_of(np.zeros((3, 4), bool)) is None
    assert kind_of(np.zeros(3, "int64")) is None
    assert kind_of(np.zeros((3, 5, 5, 7), "float32")) == "numbers"
    flat = np.full((2, 3), 4.0)
    assert np.isfinite(corrupt(flat, "gaussian-noise", 1)).all()
