"""Three image classifiers for Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747): 28x28 pixels, 10 classes.

Each has the structures of a family: plain 3x3 convolutions (VGG, arXiv:1409.1556), residual blocks (the CIFAR-10
ResNet-20 of arXiv:1512.03385, section 4.2) and depthwise-separable blocks (MobileNet, arXiv:1704.04861). An inference takes
3 to 8 million multiply-accumulates, so that each trains in minutes on a CPU.
"""

from itertools import pairwise

import torch
from torch import nn

from edgepack.zoo.weights import untrained

CLASSES = 10


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


class FashionVGG(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """``[N, 1, 28, 28]`` to logits ``[N, 10]``: pairs of 3x3 convolutions, then two linear layers with most of the weights."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((1, 16, 32, 64)):
            layers += [*_conv(inputs, outputs), *_conv(outputs, outputs), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(64 * 3 * 3, 512), nn.ReLU(), nn.Dropout(0.3), nn.Linear(512, CLASSES)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``[N, 10]``."""
        logits: torch.Tensor = self.classifier(self.features(x))
        return logits


class Shortcut(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """Two 3x3 convolutions with a residual connection, a 1x1 convolution where shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_conv(inputs, outputs, 3, stride), *_conv(outputs, outputs)[:-1])
        fits = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if fits else nn.Sequential(*_conv(inputs, outputs, 1, stride)[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[N, inputs, H, W]`` to ``[N, outputs, H/stride, W/stride]``."""
        return torch.relu(self.layers(x) + self.shortcut(x))


class FashionResNet(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """``[N, 1, 28, 28]`` to logits ``[N, 10]``: ResNet-20, with convolutions where shortcuts change shape.

    Unlike the original, the first convolution has a stride of 2.
    """

    def __init__(self) -> None:
        super().__init__()
        layers = _conv(1, 16, stride=2)
        inputs = 16
        for outputs in (16, 32, 64):
            for _ in range(3):
                layers.append(Shortcut(inputs, outputs, 1 if inputs == outputs else 2))
                inputs = outputs
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(64, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``[N, 10]``."""
        logits: torch.Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return logits


class FashionSeparable(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """``[N, 1, 28, 28]`` to logits ``[N, 10]``: depthwise 3x3 and pointwise 1x1 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        layers = _conv(1, 32, stride=2)
        for inputs, outputs, stride in (
            (32, 64, 1),
            (64, 128, 2),
            (128, 128, 1),
            (128, 256, 2),
            (256, 256, 1),
        ):
            layers += [*_conv(inputs, inputs, 3, stride, groups=inputs), *_conv(inputs, outputs, 1)]
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(256, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``[N, 10]``."""
        logits: torch.Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return logits


def vgg() -> FashionVGG:
    """Return the untrained network; its weights are always the same."""
    return untrained(FashionVGG)


def resnet20() -> FashionResNet:
    """Return the untrained network; its weights are always the same."""
    return untrained(FashionResNet)


def separable() -> FashionSeparable:
    """Return the untrained network; its weights are always the same."""
    return untrained(FashionSeparable)
