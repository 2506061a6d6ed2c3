"""Two reference networks of MLPerf Tiny (Banbury et al. 2021, arXiv:2106.07597): DS-CNN and the autoencoder.

Channels come first, as usual in torch, while the Keras originals have them last.
"""

import torch
from torch import nn

from edgepack.zoo.weights import init_seeded

_CHANNELS = 64


def _separable() -> list[nn.Module]:
    """Depthwise 3x3 and pointwise 1x1 convolution."""
    return [
        nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1, groups=_CHANNELS),
        nn.BatchNorm2d(_CHANNELS),
        nn.ReLU(),
        nn.Conv2d(_CHANNELS, _CHANNELS, 1),
        nn.BatchNorm2d(_CHANNELS),
        nn.ReLU(),
    ]


class DSCNN(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """Keyword spotting: 49 frames of 10 MFCC, ``[N, 1, 49, 10]``, to probabilities of 12 words ``[N, 12]``.

    The architecture is the small DS-CNN of Zhang et al. 2017 (arXiv:1711.07128).
    """

    def __init__(self, words: int = 12) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.ZeroPad2d((1, 1, 4, 5)),  # TensorFlow's "same": an odd row of padding goes to the bottom
            nn.Conv2d(1, _CHANNELS, (10, 4), stride=2),
            nn.BatchNorm2d(_CHANNELS),
            nn.ReLU(),
            *(layer for _ in range(4) for layer in _separable()),
            nn.AvgPool2d((25, 5)),
        )
        self.classifier = nn.Linear(_CHANNELS, words)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return probabilities ``[N, words]``."""
        return torch.softmax(self.classifier(self.features(x).flatten(1)), dim=1)


class Autoencoder(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """Anomaly detection: reconstructs 5 frames of 128 log-mel bands, ``[N, 640]``."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 640
        for outputs in (128, 128, 128, 128, 8, 128, 128, 128, 128):
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
            inputs = outputs
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, 640))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the reconstruction ``[N, 640]``."""
        y: torch.Tensor = self.layers(x)
        return y


def ds_cnn(seed: int = 0) -> DSCNN:
    """Return DS-CNN in eval mode; the same ``seed`` gives the same weights."""
    return init_seeded(DSCNN, seed, sample=(16, 1, 49, 10))


def autoencoder(seed: int = 0) -> Autoencoder:
    """Return the autoencoder in eval mode; the same ``seed`` gives the same weights."""
    return init_seeded(Autoencoder, seed, sample=(256, 640))
