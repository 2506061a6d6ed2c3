"""Weights of interpolation along one axis, as ONNX defines them, in float32 as onnxruntime computes them."""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Resized:
    """How one axis is resized.

    Attributes:
        size: elements before.
        resized: elements after.
        scale: ratio between positions; not always that of the sizes.
        region: start and end in the data, as fractions; for ``tf_crop_and_resize``.
    """

    size: int
    resized: int
    scale: float
    region: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Interpolation:
    """The attributes of Resize that determine the weights."""

    mode: Literal["nearest", "linear", "cubic"]
    coordinates: str
    rounding: str = "round_prefer_floor"
    antialias: bool = False
    exclude_outside: bool = False
    cubic: float = -0.75


@dataclass(frozen=True)
class Taps:
    """Each output element is the sum over taps of ``weights * data[at]``; both are ``[taps, resized]``.

    ``outside`` says which output elements lie outside the data, and become the extrapolation value.
    """

    at: Any
    weights: Any
    outside: Any


def taps(axis: Resized, how: Interpolation) -> Taps:
    """Return the taps of an axis; one tap of weight 1 for ``nearest``."""
    import numpy as np

    position = _positions(axis, how.coordinates)
    outside = np.zeros(axis.resized, bool)
    if how.coordinates == "tf_crop_and_resize":
        outside = (position < 0) | (position > axis.size - 1)
    if how.mode == "nearest":
        at = np.clip(_round(position, how.rounding), 0, axis.size - 1).astype(np.int64)
        return Taps(at[None], np.ones((1, axis.resized), np.float32), outside)
    first, weights = _filter(position.astype(np.float64), axis, how)
    at = first + np.arange(len(weights))[:, None]
    if how.exclude_outside:
        weights = np.where((at < 0) | (at >= axis.size), 0, weights)
    weights = weights / weights.sum(0)
    at = np.clip(at, 0, axis.size - 1).astype(np.int64)
    return Taps(at, weights.astype(np.float32), outside)


def _positions(axis: Resized, coordinates: str) -> Any:
    """Return the position in the data of every output element, in float32."""
    import numpy as np

    x = np.arange(axis.resized, dtype=np.float32)
    scale, half = np.float32(axis.scale), np.float32(0.5)
    if coordinates == "half_pixel":
        return (x + half) / scale - half
    if coordinates == "pytorch_half_pixel":
        return (x + half) / scale - half if axis.resized > 1 else np.zeros_like(x)
    if coordinates == "asymmetric":
        return x / scale
    if coordinates == "align_corners":
        if axis.resized == 1:
            return np.zeros_like(x)
        return x * np.float32(axis.size - 1) / np.float32(axis.resized - 1)
    if coordinates == "half_pixel_symmetric":
        adjustment = np.float32(axis.resized) / (scale * np.float32(axis.size))
        center = np.float32(axis.size) / np.float32(2)
        return center * (1 - adjustment) + (x + half) / scale - half
    start, end = (np.float32(each) for each in axis.region)  # tf_crop_and_resize
    last = np.float32(axis.size - 1)
    if axis.resized == 1:
        return half * (start + end) * last + x
    return start * last + x * (end - start) * last / np.float32(axis.resized - 1)


def _round(position: Any, rounding: str) -> Any:
    import numpy as np

    half = np.float32(0.5)
    return {
        "round_prefer_floor": lambda: np.ceil(position - half),
        "round_prefer_ceil": lambda: np.floor(position + half),
        "floor": lambda: np.floor(position),
        "ceil": lambda: np.ceil(position),
    }[rounding]()


def _filter(position: Any, axis: Resized, how: Interpolation) -> tuple[Any, Any]:
    """Return the first tap of each output element and all taps' weights, before any is excluded."""
    import numpy as np

    # Antialiasing widens the filter where the data shrinks.
    narrow = min(axis.scale, 1.0) if how.antialias else 1.0
    reach = {"linear": 1, "cubic": 2}[how.mode]
    start = int(np.floor(-reach / narrow)) + 1
    base = np.floor(position)
    offsets = np.arange(start, 2 - start if how.antialias else reach + 1)[:, None]
    distance = np.abs(narrow * (offsets - (position - base)))
    if how.mode == "linear":
        return base + start, np.clip(1 - distance, 0, None)
    a = how.cubic
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return base + start, np.where(distance <= 1, near, np.where(distance < reach, far, 0))
