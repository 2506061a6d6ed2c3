"""Made-up inputs of a model, where the user gives none: for comparing an import, and for parity on the board.

They respect what the graph says of its inputs (:mod:`edgepack.onnxfile.uses`): indices are within their tables, masks
are ones with a padded end in some samples, pixels have the range of the dtype or of the constants that normalise them,
and arguments of logarithms and roots are positive. Each sample is run once in onnxruntime; one whose outputs are NaN or
infinite, or repeat those before it, is replaced by another draw.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.errors import InputError
from edgepack.onnxfile.sessions import open_session, run_session
from edgepack.onnxfile.uses import Expected, input_uses
from edgepack.spec import Input

if TYPE_CHECKING:
    import numpy as np

# Upper bounds for integers of which the graph says nothing; the first that the model accepts is used.
_INTEGERS = (1000, 100, 10, 2, 1)
_TRIES = 8  # draws of one sample
_MASK = re.compile(r"(^|[^a-z])mask([^a-z]|$)", re.IGNORECASE)
_ANY = Expected()
_WHITE = 255  # of uint8 pixels
_IMAGE_AXES, _SMALLEST_IMAGE, _CHANNELS = 4, 4, {1, 3, 4}
_BLOCKS = 4  # rows and columns of coarse blocks in a made-up image
_MEAN, _DEVIATION = 0.5, 0.25  # of pixels, where a model takes them normalised


@dataclass(frozen=True)
class Sample:
    """Inputs by name, and the outputs that the model has for them, in order; each of its model's shape."""

    inputs: "dict[str, np.ndarray]"
    outputs: "list[np.ndarray]"

    @property
    def finite(self) -> bool:
        """Whether no output holds NaN or an infinity."""
        return all(is_finite(output) for output in self.outputs)


def made_up(path: Path, inputs: Sequence[Input], count: int) -> list[Sample]:
    """Return ``count`` samples that the model accepts, the same for the same model.

    Floating-point numbers of which the graph says nothing are normal, uniform in [0, 1), and normal with a standard
    deviation of 3, in turn; images are in [0, 1] and normalised, in turn. An output may still be NaN or infinite, if
    it was in every draw.

    Raises:
        InputError: the model accepts no input, or onnxruntime cannot load it.
    """
    maker = _Maker(path, inputs)
    samples: list[Sample] = []
    for number in range(count):
        samples.append(maker.sample(number, samples))
    return samples


def telling(outputs: "Sequence[np.ndarray]") -> bool:
    """Whether a wrong result would differ from these outputs: some value is neither 0, NaN nor infinite."""
    import numpy as np

    return any(bool((np.isfinite(wide) & (wide != 0)).any()) for wide in map(_wide, outputs))


def constant_outputs(names: Sequence[str], samples: "Sequence[Sequence[np.ndarray]]") -> list[str]:
    """The names of outputs that are the same for all samples; none if there is only one."""
    import numpy as np

    if len(samples) <= 1:
        return []
    first, *others = samples
    return [
        name
        for index, name in enumerate(names)
        if all(
            np.array_equal(first[index], each[index], equal_nan=_kind(first[index]) == "f") for each in others
        )
    ]


class _Maker:
    """Draws inputs of one model, and runs it."""

    def __init__(self, path: Path, inputs: Sequence[Input]) -> None:
        import onnx

        self._path = path
        self._inputs = inputs
        self._session = open_session(path)
        self._expected = input_uses(onnx.load_model(path, load_external_data=False))
        self._bounds = list(_INTEGERS)

    def sample(self, number: int, before: Sequence[Sample]) -> Sample:
        """The sample of this number; one of several draws that tells most."""
        best: Sample | None = None
        for attempt in range(_TRIES):
            drawn = self._run(number, attempt)
            repeated = any(_same(drawn.outputs, each.outputs) for each in before)
            if drawn.finite and telling(drawn.outputs) and not repeated:
                return drawn
            if best is None or (drawn.finite and not best.finite):
                best = drawn
        return best if best is not None else self._run(number, 0)

    def _run(self, number: int, attempt: int) -> Sample:
        """Draw inputs and run them, with smaller integers if the model does not accept these."""
        while True:
            feed = self._draw(number, attempt)
            try:
                return Sample(feed, run_session(self._session, feed, self._path))
            except InputError:
                if len(self._bounds) == 1:
                    raise
                del self._bounds[0]

    def _draw(self, number: int, attempt: int) -> "dict[str, np.ndarray]":
        import numpy as np

        tail = float(np.random.default_rng([number, attempt]).uniform(0.2, 0.6)) if number % 2 else 0.0
        feed = {}
        for index, given in enumerate(self._inputs):
            rng = np.random.default_rng([number, attempt, index])
            expected = self._expected.get(given.name, _ANY)
            feed[given.name] = _Draw(rng, given, expected, number, attempt, tail, self._bounds[0]).array()
        return feed


@dataclass(frozen=True)
class _Draw:
    """One input of one sample; ``tail`` is the share of padding at the end of its last axis."""

    rng: "np.random.Generator"
    given: Input
    expected: Expected
    number: int
    attempt: int
    tail: float
    below: int

    def array(self) -> "np.ndarray":
        import numpy as np

        kind = np.dtype(self.given.dtype)
        if self._is_mask(kind):
            return np.asarray(self._mask(), kind)
        if kind.kind == "b":
            return np.asarray(self.rng.random(self.given.shape) < 0.5)  # noqa: PLR2004 - as often true as false
        return np.asarray(self._real() if kind.kind == "f" else self._whole(kind), kind)

    def _is_mask(self, kind: "np.dtype[Any]") -> bool:
        if self.expected.index:
            return False
        named = _MASK.search(self.given.name.replace("_", " ")) is not None
        return named or (kind.kind != "f" and self.expected.kept != 0)

    def _mask(self) -> "np.ndarray":
        """Ones where values are used; a later attempt tries the opposite."""
        import numpy as np

        used = np.ones(self.given.shape, bool)
        if self.given.shape:
            used[..., self._valid() :] = False
        kept = (self.expected.kept or 1) * (-1 if self.attempt % 4 > 1 else 1)
        return used if kept > 0 else ~used

    def _valid(self) -> int:
        """How many elements of the last axis are no padding: at least one."""
        length = self.given.shape[-1]
        return max(length - round(length * self.tail), 1)

    def _whole(self, kind: "np.dtype[Any]") -> "np.ndarray":
        """Integers: indices in their range, pixels, else up to the bound that the model accepts."""
        import numpy as np

        limits, expected = np.iinfo(kind), self.expected
        if kind == np.uint8 and _is_image(self.given.shape) and not expected.index:
            return np.asarray((self._image() * _WHITE).round(), kind)
        if kind.itemsize == 1 and expected == _ANY:
            return self.rng.integers(limits.min, limits.max, self.given.shape, kind, endpoint=True)
        signed = self.number % 2 == 1 and expected.low == -inf
        low = max(limits.min, np.ceil(expected.low) if expected.low > -inf else -self.below if signed else 0)
        high = min(
            limits.max, np.floor(expected.high) if expected.high < inf else max(low, 0) + self.below - 1
        )
        low = min(low, high) if expected.low == -inf else low
        drawn = self.rng.integers(int(low), max(int(high), int(low)), self.given.shape, endpoint=True)
        if expected.padding is not None and self.given.shape:
            drawn[..., self._valid() :] = int(expected.padding)
        return np.asarray(drawn, kind)

    def _real(self) -> "np.ndarray":
        """Floating-point numbers, within the range for which the model is defined."""
        import numpy as np

        expected, shape = self.expected, self.given.shape
        scale = (3.0 if self.number % 3 == 2 else 1.0) / (10.0 if self.attempt % 4 == 3 else 1.0)  # noqa: PLR2004 - the third of three, the last of four
        normal = self.rng.standard_normal(shape) * scale
        drawn: np.ndarray = self.rng.random(shape) if self.number % 3 == 1 else normal
        if _is_image(shape):
            drawn = self._image() * (expected.pixels or 1.0)
            if expected.pixels is None and self.number % 2:
                drawn = (drawn - _MEAN) / _DEVIATION
        if self.attempt >= _TRIES // 2:
            drawn = np.abs(drawn) + 0.1  # nothing finite so far: something needs positive numbers
        if expected.low > -inf:
            drawn = expected.low + np.abs(drawn - expected.low)
        if expected.high < inf:
            low = expected.low if expected.low > -inf else expected.high - 2
            drawn = np.where(drawn > expected.high, self.rng.uniform(low, expected.high, shape), drawn)
        return drawn

    def _image(self) -> "np.ndarray":
        """Pixels in [0, 1]: coarse blocks and noise around a brightness of its own, so that images differ on average."""
        import numpy as np

        *outer, first, second, last = self.given.shape
        channels_last = first not in _CHANNELS
        full = (*outer, last, first, second) if channels_last else (*outer, first, second, last)
        rows, columns = (np.arange(size) * _BLOCKS // size for size in full[-2:])
        blocks = self.rng.random((*full[:-2], _BLOCKS, _BLOCKS))[..., rows, :][..., columns]
        brightness = self.rng.uniform(0.2, 0.8, (*full[:-2], 1, 1))
        image = brightness + 0.5 * (blocks - 0.5) + 0.2 * (self.rng.random(full) - 0.5)
        return np.clip(np.moveaxis(image, -3, -1) if channels_last else image, 0, 1)


def _is_image(shape: Sequence[int]) -> bool:
    if len(shape) != _IMAGE_AXES:
        return False
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    return (first and min(shape[2:]) >= _SMALLEST_IMAGE) or (last and min(shape[1:3]) >= _SMALLEST_IMAGE)


def _same(first: "Sequence[np.ndarray]", second: "Sequence[np.ndarray]") -> bool:
    return len(constant_outputs([""] * len(first), [first, second])) == len(first)


def is_finite(array: "np.ndarray") -> bool:
    """Whether an array of any dtype holds neither NaN nor an infinity."""
    import numpy as np

    return bool(np.isfinite(_wide(array)).all())


def _wide(array: "np.ndarray") -> "np.ndarray":
    """Any numbers as float64; what is no number as zeros."""
    import numpy as np

    return array.astype(np.float64) if _kind(array) in {"f", "i", "u", "b"} else np.zeros(1)


def _kind(output: Any) -> str:
    """The kind of a NumPy dtype; empty for a sequence or an optional value."""
    import numpy as np

    return output.dtype.kind if isinstance(output, np.ndarray) else ""
