"""A fixed set of corruptions of samples at five severities, to see what a model's score is worth outside of its test split.

Images: noise, blur and digital distortions after Hendrycks and Dietterich 2019 (arXiv:1903.12261). Token ids: tokens that are
dropped, swapped with their neighbour or replaced. Equal samples and severities always give equal results.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["images", "tokens", "numbers"]
"""What samples are: ``[N, C, H, W]`` or ``[N, H, W, C]``, integers ``[N, length]``, or anything else."""

_CHANNELS = {1, 3, 4}
_IMAGE_AXES, _SMALLEST = 4, 4
_SEED = 0
SEVERITIES = (1, 2, 3, 4, 5)


def kind_of(x: "np.ndarray") -> Kind | None:
    """What an array of samples is; None if there is no corruption for it."""
    if x.dtype.kind in "iu" and x.dtype.name != "uint8":
        return "tokens" if x.ndim == 2 and x.shape[1] > 1 else None  # noqa: PLR2004 - samples and tokens
    if x.dtype.kind == "b":
        return None
    return "images" if x.ndim == _IMAGE_AXES and _layout(x.shape) is not None else "numbers"


def corrupt(x: "np.ndarray", name: str, severity: int) -> "np.ndarray":
    """Samples ``[N, ...]`` with the corruption of this name at a severity from 1 to 5, in their own dtype.

    Magnitudes are relative to the range of all values in ``x``, so that pixels may be 0 to 255, 0 to 1 or normalised;
    results stay within that range.
    """
    import numpy as np

    kind = kind_of(x)
    rng = np.random.default_rng([_SEED, severity, sorted(_ALL).index(name)])
    if kind == "tokens":
        return TOKENS[name](x, severity, rng)
    low, high = float(x.min()), float(x.max())
    scale = high - low or 1.0
    unit = (x.astype(np.float32) - low) / scale
    channels_last = kind == "images" and _layout(x.shape) == "nhwc"
    unit = np.moveaxis(unit, -1, 1) if channels_last else unit
    changed = np.clip(_ALL[name](unit, severity, rng), 0, 1) * scale + low
    changed = np.moveaxis(changed, 1, -1) if channels_last else changed
    return np.ascontiguousarray(changed.round() if x.dtype.kind in "iu" else changed, dtype=x.dtype)


def _layout(shape: tuple[int, ...]) -> str | None:
    if shape[1] in _CHANNELS and min(shape[2:]) >= _SMALLEST:
        return "nchw"
    return "nhwc" if shape[3] in _CHANNELS and min(shape[1:3]) >= _SMALLEST else None


def _gaussian_noise(x: "np.ndarray", severity: int, rng: "np.random.Generator") -> "np.ndarray":
    import numpy as np

    return np.asarray(x + rng.standard_normal(x.shape) * (0.04, 0.08, 0.12, 0.18, 0.26)[severity - 1])


def _impulse_noise(x: "np.ndarray", severity: int, rng: "np.random.Generator") -> "np.ndarray":
    import numpy as np

    share = (0.01, 0.03, 0.06, 0.1, 0.17)[severity - 1]
    drawn = rng.random(x.shape)
    return np.where(drawn < share / 2, 0.0, np.where(drawn < share, 1.0, x))


def _blur(x: "np.ndarray", severity: int, rng: "np.random.Generator") -> "np.ndarray":
    """A Gaussian blur by a separable filter; the edges are repeated."""
    import numpy as np

    del rng
    sigma = (0.4, 0.6, 0.8, 1.0, 1.5)[severity - 1] * max(1.0, min(x.shape[2:]) / 32)
    reach = max(1, round(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps /= taps.sum()
    for axis in (2, 3):
        wide = np.pad(x, [(reach, reach) if each == axis else (0, 0) for each in range(4)], mode="edge")
        size = x.shape[axis]
        x = sum(tap * np.take(wide, range(i, i + size), axis=axis) for i, tap in enumerate(taps))
    return x


def _brightness(x: "np.ndarray", severity: int, rng: "np.random.Generator") -> "np.ndarray":
    import numpy as np

    sign = np.where(rng.random(len(x)) < 0.5, -1, 1).reshape(-1, *[1] * (x.ndim - 1))  # noqa: PLR2004 - as often darker
    return np.asarray(x + sign * 0.1 * severity)


def _contrast(x: "np.ndarray", severity: int, rng: "np.random.Generator") -> "np.ndarray":
    import numpy as np

    del rng
    mean = x.mean(axis=tuple(range(1, x.ndim)), keepdims=True)
    return np.asarray((x - mean) * (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1] + mean)


def _pixelate(x: "np.ndarray", severity: int, rng: "np.random.Generator") -> "np.ndarray":
    """Every block of a coarser grid gets the value of its first pixel."""
    import numpy as np

    del rng
    for axis in (2, 3):
        size = x.shape[axis]
        cells = max(2, round(size * (0.8, 0.65, 0.5, 0.4, 0.3)[severity - 1]))
        starts = np.arange(size) * cells // size * size // cells
        x = np.take(x, starts, axis=axis)
    return x


def _scaling(x: "np.ndarray", severity: int, rng: "np.random.Generator") -> "np.ndarray":
    import numpy as np

    factor = 1 + 0.1 * severity * np.where(rng.random(len(x)) < 0.5, -1, 1)  # noqa: PLR2004 - as often smaller
    return np.asarray((x - 0.5) * factor.reshape(-1, *[1] * (x.ndim - 1)) + 0.5)


def _chosen(x: "np.ndarray", severity: int, rng: "np.random.Generator") -> "np.ndarray":
    """Where tokens are changed: 5 to 25 % of them, padding (0) left out."""
    import numpy as np

    return np.asarray((rng.random(x.shape) < 0.05 * severity) & (x != 0))


def _drop(x: "np.ndarray", severity: int, rng: "np.random.Generator") -> "np.ndarray":
    """Tokens are left out; the following ones move up, and padding follows."""
    import numpy as np

    kept = ~_chosen(x, severity, rng)
    order = np.argsort(~kept, axis=1, kind="stable")
    moved = np.take_along_axis(x, order, axis=1)
    return np.where(np.arange(x.shape[1]) < kept.sum(axis=1)[:, None], moved, 0).astype(x.dtype)


def _swap(x: "np.ndarray", severity: int, rng: "np.random.Generator") -> "np.ndarray":
    """Tokens change places with their right neighbour."""
    import numpy as np

    where = _chosen(x, severity, rng)
    result = x.copy()
    for column in range(x.shape[1] - 1):
        rows = np.flatnonzero(where[:, column] & (result[:, column + 1] != 0))
        result[rows, column], result[rows, column + 1] = (
            result[rows, column + 1].copy(),
            result[rows, column].copy(),
        )
    return result


def _replace(x: "np.ndarray", severity: int, rng: "np.random.Generator") -> "np.ndarray":
    """Tokens become others that the samples have."""
    import numpy as np

    known = x[x != 0]
    return x if not known.size else np.where(_chosen(x, severity, rng), rng.choice(known, x.shape), x)


Corruption = Callable[["np.ndarray", int, "np.random.Generator"], "np.ndarray"]

IMAGES: dict[str, Corruption] = {
    "gaussian-noise": _gaussian_noise,
    "impulse-noise": _impulse_noise,
    "blur": _blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "pixelate": _pixelate,
}
TOKENS: dict[str, Corruption] = {"drop": _drop, "swap": _swap, "replace": _replace}
NUMBERS: dict[str, Corruption] = {
    "gaussian-noise": _gaussian_noise,
    "impulse-noise": _impulse_noise,
    "scaling": _scaling,
}
CORRUPTIONS: dict[Kind, dict[str, Corruption]] = {"images": IMAGES, "tokens": TOKENS, "numbers": NUMBERS}
"""By kind of samples and name."""

_ALL = {**IMAGES, **NUMBERS, **TOKENS}
