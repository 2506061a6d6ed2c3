"""A small real classifier: scikit-learn's 1,797 handwritten digits (8x8) and a CNN of 59,082 parameters.

The network has the structures that compression handles in larger ones: a residual block, a depthwise-separable
block, and batch normalisation. It reaches 98 to 99 % on the test split.
"""

import torch
from torch import nn

from edgepack.data import Splits, stratified_split
from edgepack.zoo.weights import untrained


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Residual(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """Two 3x3 convolutions with a residual connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[N, channels, H, W]`` to the same shape."""
        return torch.relu(x + self.second(self.first(x)))


class Digits(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """``[N, 1, 8, 8]`` in 0..1 to logits ``[N, 10]``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(1, 32)
        self.residual = Residual(32)
        self.depthwise = _conv(32, 32, stride=2, groups=32)
        self.pointwise = _conv(32, 64, kernel=1)
        self.last = _conv(64, 64)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``[N, 10]``."""
        x = self.residual(self.stem(x))
        x = self.last(self.pointwise(self.depthwise(x)))
        logits: torch.Tensor = self.classifier(self.pool(x).flatten(1))
        return logits


def network() -> Digits:
    """Return the untrained network; its weights are always the same."""
    return untrained(Digits)


def splits() -> Splits:
    """Return 1,438 training and 359 test digits as float32 ``[N, 1, 8, 8]`` in 0..1, stratified, always the same."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = (digits.images[:, None] / 16).astype("float32")
    y = digits.target.astype("int64")
    train, test = stratified_split(y, test_fraction=0.2, seed=0)
    return Splits(
        x[train], y[train], x[test], y[test], classes=tuple(str(name) for name in digits.target_names)
    )
