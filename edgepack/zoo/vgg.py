"""VGG-16, configuration D, without batch normalisation (Simonyan and Zisserman 2014, arXiv:1409.1556)."""

import torch
from torch import nn

from edgepack.zoo.weights import init_seeded

# Channels and number of the 3x3 convolutions before each pooling: table 1 of the paper.
_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class VGG16(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """``[N, 3, 224, 224]`` to logits ``[N, 1000]``."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for channels, count in _STAGES:
            for _ in range(count):
                layers += [nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU()]
                inputs = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``[N, classes]``."""
        logits: torch.Tensor = self.classifier(self.features(x).flatten(1))
        return logits


def network(seed: int = 0) -> VGG16:
    """Return VGG-16 in eval mode; the same ``seed`` gives the same weights."""
    return init_seeded(VGG16, seed)
