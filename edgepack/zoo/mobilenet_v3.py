"""MobileNetV3-Large at width 1.0 (Howard et al. 2019, arXiv:1905.02244)."""

from typing import NamedTuple

import torch
from torch import nn

from edgepack.zoo.weights import init_seeded


class _Row(NamedTuple):
    kernel: int
    hidden: int  # channels after the expansion
    outputs: int
    excite: bool  # squeeze-and-excite
    activation: type[nn.Module]
    stride: int


# Table 1 of the paper.
_BLOCKS = (
    _Row(3, 16, 16, False, nn.ReLU, 1),
    _Row(3, 64, 24, False, nn.ReLU, 2),
    _Row(3, 72, 24, False, nn.ReLU, 1),
    _Row(5, 72, 40, True, nn.ReLU, 2),
    _Row(5, 120, 40, True, nn.ReLU, 1),
    _Row(5, 120, 40, True, nn.ReLU, 1),
    _Row(3, 240, 80, False, nn.Hardswish, 2),
    _Row(3, 200, 80, False, nn.Hardswish, 1),
    _Row(3, 184, 80, False, nn.Hardswish, 1),
    _Row(3, 184, 80, False, nn.Hardswish, 1),
    _Row(3, 480, 112, True, nn.Hardswish, 1),
    _Row(3, 672, 112, True, nn.Hardswish, 1),
    _Row(5, 672, 160, True, nn.Hardswish, 2),
    _Row(5, 960, 160, True, nn.Hardswish, 1),
    _Row(5, 960, 160, True, nn.Hardswish, 1),
)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs, eps=1e-3)]


def _divisible(channels: int) -> int:
    """Return the multiple of 8 nearest to ``channels``, or the next one if that loses more than a tenth."""
    rounded = max(8, (channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


class SqueezeExcite(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """Scales every channel by a hard sigmoid of all channels' means (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = _divisible(channels // 4)
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[N, channels, H, W]`` to the same shape."""
        scale: torch.Tensor = self.layers(x)
        return x * scale


class Bottleneck(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """Expand 1x1, depthwise, squeeze-and-excite, project 1x1; residual connection if shapes match."""

    def __init__(self, inputs: int, row: _Row) -> None:
        super().__init__()
        hidden = row.hidden
        layers = [*_conv(inputs, hidden, 1), row.activation()] if hidden != inputs else []
        layers += [*_conv(hidden, hidden, row.kernel, row.stride, groups=hidden), row.activation()]
        if row.excite:
            layers.append(SqueezeExcite(hidden))
        layers += _conv(hidden, row.outputs, 1)
        self.layers = nn.Sequential(*layers)
        self.residual = row.stride == 1 and inputs == row.outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[N, inputs, H, W]`` to ``[N, outputs, H/stride, W/stride]``."""
        y: torch.Tensor = self.layers(x)
        return x + y if self.residual else y


class MobileNetV3Large(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """``[N, 3, 224, 224]`` to logits ``[N, 1000]``."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_conv(3, 16, 3, 2), nn.Hardswish()]
        channels = 16
        for row in _BLOCKS:
            layers.append(Bottleneck(channels, row))
            channels = row.outputs
        layers += [*_conv(channels, 960, 1), nn.Hardswish()]
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(960, 1280), nn.Hardswish(), nn.Linear(1280, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``[N, classes]``."""
        logits: torch.Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return logits


def large(seed: int = 0) -> MobileNetV3Large:
    """Return MobileNetV3-Large in eval mode; the same ``seed`` gives the same weights."""
    return init_seeded(MobileNetV3Large, seed, sample=(4, 3, 128, 128))
