"""MobileNetV2 at width 1.0 (Sandler et al. 2018, arXiv:1801.04381)."""

import torch
from torch import nn

from edgepack.zoo.weights import init_seeded

# Expansion, output channels, repeats, stride of the first: table 2 of the paper.
_BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]


class InvertedResidual(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """Expand 1x1, depthwise 3x3, project 1x1 without activation; residual connection if shapes match."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers = [*_conv(inputs, hidden, 1), nn.ReLU6()] if expansion != 1 else []
        layers += [*_conv(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6(), *_conv(hidden, outputs, 1)]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[N, inputs, H, W]`` to ``[N, outputs, H/stride, W/stride]``."""
        y: torch.Tensor = self.layers(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """``[N, 3, 224, 224]`` to logits ``[N, 1000]``."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_conv(3, 32, 3, 2), nn.ReLU6()]
        channels = 32
        for expansion, outputs, repeats, stride in _BLOCKS:
            for i in range(repeats):
                layers.append(InvertedResidual(channels, outputs, stride if i == 0 else 1, expansion))
                channels = outputs
        layers += [*_conv(channels, 1280, 1), nn.ReLU6()]
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(1280, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``[N, classes]``."""
        logits: torch.Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return logits


def network(seed: int = 0) -> MobileNetV2:
    """Return MobileNetV2 in eval mode; the same ``seed`` gives the same weights."""
    return init_seeded(MobileNetV2, seed, sample=(4, 3, 128, 128))
