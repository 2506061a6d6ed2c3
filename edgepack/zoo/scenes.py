"""Segmentation and regression on scenes: a handwritten digit somewhere in a noisy image of 24x24 pixels.

The digits are scikit-learn's, as in :mod:`edgepack.zoo.digits`. ``masks`` asks which pixels are ink, ``centres`` where the
middle of the digit is.
"""

from typing import TYPE_CHECKING

import torch
from torch import nn

from edgepack.data import Splits
from edgepack.zoo import digits
from edgepack.zoo.weights import untrained

if TYPE_CHECKING:
    import numpy as np

SIZE = 24
"""Height and width of a scene, pixels."""

_INK = 0.4  # of a digit's pixel, from which on it belongs to the mask
_NOISE = 0.1  # standard deviation
_DIGIT = 8


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Segmenter(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """``[N, 1, 24, 24]`` to logits ``[N, 2, 24, 24]`` of background and ink: an encoder, a decoder, and a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.first = _conv(1, 16)
        self.down = nn.Sequential(_conv(16, 32, stride=2), _conv(32, 32))
        self.up = nn.ConvTranspose2d(32, 16, 2, 2)
        self.last = nn.Sequential(_conv(32, 16), nn.Conv2d(16, 2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``[N, 2, 24, 24]``."""
        full = self.first(x)
        logits: torch.Tensor = self.last(torch.cat([full, self.up(self.down(full))], dim=1))
        return logits


class Locator(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """``[N, 1, 24, 24]`` to the centre of the digit ``[N, 2]``: row and column, from 0 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(_conv(1, 16, 2), _conv(16, 32, 2), _conv(32, 32))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(32 * 36, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return row and column ``[N, 2]``."""
        centre: torch.Tensor = self.head(self.features(x))
        return centre


def segmenter() -> Segmenter:
    """Return the untrained network; its weights are always the same."""
    return untrained(Segmenter)


def locator() -> Locator:
    """Return the untrained network; its weights are always the same."""
    return untrained(Locator)


def masks() -> Splits:
    """Return scenes float32 ``[N, 1, 24, 24]`` with the class of each pixel, int64 ``[N, 24, 24]``; always the same."""
    (x, masks_of_x, _), (y, masks_of_y, _) = _scenes()
    return Splits(x, masks_of_x, y, masks_of_y, classes=("background", "ink"))


def centres() -> Splits:
    """Return scenes float32 ``[N, 1, 24, 24]`` with the centre of each digit, float32 ``[N, 2]``; always the same."""
    (x, _, centres_of_x), (y, _, centres_of_y) = _scenes()
    return Splits(x, centres_of_x, y, centres_of_y)


def _scenes() -> "list[tuple[np.ndarray, np.ndarray, np.ndarray]]":
    """Scenes, masks and centres of the training and the test digits."""
    import numpy as np

    drawn = digits.splits()
    made = []
    for seed, images in enumerate((drawn.x_train, drawn.x_test)):
        random = np.random.default_rng(seed)
        count = len(images)
        corners = random.integers(0, SIZE - _DIGIT + 1, (count, 2))
        ink = np.zeros((count, SIZE, SIZE), np.float32)
        for scene, image, (top, left) in zip(ink, images, corners, strict=True):
            scene[top : top + _DIGIT, left : left + _DIGIT] = image[0]
        seen = ink + _NOISE * random.standard_normal(ink.shape)
        centres_of = (corners + _DIGIT / 2) / SIZE
        made.append(
            (
                seen.clip(0, 1)[:, None].astype(np.float32),
                (ink > _INK).astype(np.int64),
                centres_of.astype(np.float32),
            )
        )
    return made
