"""The fast functions on the emulated GPU: within the errors that NVIDIA documents, and not better than plausible."""

import numpy as np
import pytest
from launching import Launcher, elementwise


@pytest.fixture(scope="module")
def gpu(tmp_path_factory):
    return Launcher(tmp_path_factory.mktemp("gpu"))


def ulps(got, want):
    """The error in units of the last place of the exact result."""
    size = np.abs(want).astype(np.float32)
    return np.abs(got.astype(np.float64) - want) / np.spacing(np.maximum(size, np.finfo(np.float32).tiny))


def test_exponentials_and_logarithms_err_as_documented(gpu):
    rng = np.random.default_rng(0)
    a = rng.uniform(-80, 80, 8192).astype(np.float32)
    b = np.concatenate([rng.uniform(0.5, 2, 4096), np.exp(rng.uniform(-80, 80, 4096))]).astype(np.float32)
    body = "r[i] = __expf(a[i]); s[i] = __logf(b[i]); t[i] = __log2f(b[i]); u[i] = __log10f(b[i]);"
    exp, log, log2, log10 = elementwise(gpu, ["float"] * 6, body, [a, b], [np.float32] * 4)
    wide, x = a.astype(np.float64), b.astype(np.float64)
    error = ulps(exp, np.exp(wide))
    assert (error <= 2 + np.floor(np.abs(1.173 * wide))).all()
    assert error.max() > 5  # the rounding of x * log2(e) is there
    near = (x >= 0.5) & (x <= 2)
    for got, want, bound, ulp in (
        (log, np.log(x), 2**-21.41, 3),
        (log2, np.log2(x), 2**-22, 2),
        (log10, np.log10(x), 2**-24, 3),
    ):
        assert np.abs(got - want)[near].max() <= bound
        assert ulps(got, want)[~near].max() <= ulp
    assert ulps(log, np.log(x))[near].max() > 8  # absolute errors are large beside results near 0


def test_sines_err_as_documented(gpu):
    a = np.concatenate([np.linspace(-np.pi, np.pi, 8192), np.linspace(-3000, 3000, 4096)]).astype(np.float32)
    a[:8192] = np.clip(a[:8192], -np.float32(3.1415925), np.float32(3.1415925))
    body = "r[i] = __sinf(a[i]); s[i] = __cosf(a[i]); t[i] = __tanf(a[i]); u[i] = __tanhf(a[i]);"
    sin, cos, tan, tanh = elementwise(gpu, ["float"] * 5, body, [a], [np.float32] * 4)
    x = a.astype(np.float64)
    assert np.abs(sin - np.sin(x))[:8192].max() <= 2**-21.41
    assert np.abs(cos - np.cos(x))[:8192].max() <= 2**-21.19
    assert 2**-21.19 < np.abs(sin - np.sin(x))[8192:].max() < 1e-3
    assert (tan == sin * (np.float32(1) / cos)).all()
    assert (np.abs(tanh - np.tanh(x)) <= 2**-11 * np.abs(np.tanh(x))).all()


def test_division_by_huge_numbers_is_zero(gpu):
    top = np.float32(2) ** 126
    a = np.array([1, np.inf, -1, 3, 1, 6, np.inf], np.float32)
    b = np.array([top * 1.5, top * 1.5, top * 1.5, top, np.inf, 3, 2], np.float32)
    body = "r[i] = __fdividef(a[i], b[i]); s[i] = __powf(b[i], 0.5f); t[i] = __saturatef(a[i]); u[i] = __frcp_rn(b[i]);"
    div, power, saturated, inverse = elementwise(gpu, ["float"] * 6, body, [a, b], [np.float32] * 4)
    assert np.isnan(div[1])
    assert div[[0, 2, 3, 4, 5, 6]].tolist() == [0, 0, float(np.float32(3) / top), 0, 2, np.inf]
    assert np.allclose(power, np.sqrt(b), rtol=1e-4)
    assert saturated.tolist() == [1, 1, 0, 1, 1, 1, 1]
    assert (inverse == np.float32(1) / b).all()


def test_min_and_max_of_floats_pass_over_nan_and_order_zeros(gpu):
    a = np.array([np.nan, 1, 0.0, -0.0, np.nan, 2], np.float32)
    b = np.array([1, np.nan, -0.0, 0.0, np.nan, 3], np.float32)
    body = (
        "r[i] = max(a[i], b[i]); s[i] = min(a[i], b[i]); t[i] = fmaxf(a[i], b[i]); u[i] = fminf(a[i], b[i]);"
    )
    high, low, high2, low2 = elementwise(gpu, ["float"] * 6, body, [a, b], [np.float32] * 4)
    assert np.array_equal(high, [1, 1, 0, 0, np.nan, 3], equal_nan=True)
    assert not np.signbit(high[2:4]).any()
    assert np.array_equal(low, [1, 1, 0, 0, np.nan, 2], equal_nan=True)
    assert np.signbit(low[2:4]).all()
    assert np.array_equal(high, high2, equal_nan=True)
    assert np.array_equal(low, low2, equal_nan=True)


def test_full_precision_functions_of_float(gpu):
    a = np.random.default_rng(4).uniform(0.1, 5, 1024).astype(np.float32)
    body = "r[i] = rsqrtf(a[i]); s[i] = erff(a[i]); t[i] = tanh(a[i]); u[i] = exp(a[i]) + nearbyintf(a[i]);"
    got = elementwise(gpu, ["float"] * 5, body, [a], [np.float32] * 4)
    x = a.astype(np.float64)
    from math import erf

    wanted = [1 / np.sqrt(x), np.array([erf(v) for v in x]), np.tanh(x), np.exp(x) + np.rint(x)]
    for y, want in zip(got, wanted, strict=True):
        assert ulps(y, want).max() <= 2
