"""ResNet-18 and ResNet-50 (He et al. 2015, arXiv:1512.03385).

The stride of a ResNet-50 block is in its 3x3 convolution, as in current implementations (in the
paper it is in the first 1x1): 4.09 billion MACs instead of 3.8.
"""

import torch
from torch import nn

from edgepack.zoo.weights import init_seeded

_STAGES = (64, 128, 256, 512)  # channels of the 3x3 convolutions


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class ResidualBlock(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """Convolutions with a residual connection, which has a 1x1 convolution if shapes differ."""

    def __init__(self, layers: list[nn.Module], inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        fits = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if fits else nn.Sequential(*_conv(inputs, outputs, 1, stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[N, inputs, H, W]`` to ``[N, outputs, H/stride, W/stride]``."""
        return torch.relu(self.layers(x) + self.shortcut(x))


def _basic(inputs: int, width: int, stride: int) -> ResidualBlock:
    """Two 3x3 convolutions."""
    layers = [*_conv(inputs, width, 3, stride), nn.ReLU(), *_conv(width, width, 3)]
    return ResidualBlock(layers, inputs, width, stride)


def _bottleneck(inputs: int, width: int, stride: int) -> ResidualBlock:
    """1x1 down to ``width``, 3x3, 1x1 up to four times ``width``."""
    layers = [*_conv(inputs, width, 1), nn.ReLU(), *_conv(width, width, 3, stride), nn.ReLU()]
    return ResidualBlock([*layers, *_conv(width, 4 * width, 1)], inputs, 4 * width, stride)


class ResNet(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """``[N, 3, 224, 224]`` to logits ``[N, 1000]``."""

    def __init__(self, repeats: tuple[int, ...], *, bottleneck: bool, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        block, expansion = (_bottleneck, 4) if bottleneck else (_basic, 1)
        channels = 64
        for stage, (width, count) in enumerate(zip(_STAGES, repeats, strict=True)):
            for i in range(count):
                layers.append(block(channels, width, 2 if stage > 0 and i == 0 else 1))
                channels = width * expansion
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``[N, classes]``."""
        logits: torch.Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return logits


def resnet18(seed: int = 0) -> ResNet:
    """Return ResNet-18 in eval mode; the same ``seed`` gives the same weights."""
    return init_seeded(lambda: ResNet((2, 2, 2, 2), bottleneck=False), seed, sample=(4, 3, 128, 128))


def resnet50(seed: int = 0) -> ResNet:
    """Return ResNet-50 in eval mode; the same ``seed`` gives the same weights."""
    return init_seeded(lambda: ResNet((3, 4, 6, 3), bottleneck=True), seed, sample=(4, 3, 128, 128))
