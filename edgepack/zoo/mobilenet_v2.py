"""MobileNetV2 at 224x224, width 1.0 (Sandler et al. 2018, arXiv:1801.04381), with seeded random weights.

For benchmarks and tests of everything after training: the shapes are the real ones (3,504,872
parameters, about 301 million MACs), the weights mean nothing. Batch normalisation holds the statistics of
the network's own activations, so that values neither vanish nor explode and outputs depend on the input.

``python -m edgepack.zoo.mobilenet_v2 out.onnx`` writes the network as ONNX.
"""

import sys
from pathlib import Path

import torch
from torch import nn

from edgepack.recipe import Input

INPUTS = (Input(name="image", shape=(1, 3, 224, 224)),)
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
    """Expand 1x1, depthwise 3x3, project 1x1 without activation; added to its input where shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers = [*_conv(inputs, hidden, 1), nn.ReLU6()] if expansion != 1 else []
        layers += [*_conv(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6(), *_conv(hidden, outputs, 1)]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, inputs, H, W]`` to ``[N, outputs, H/stride, W/stride]``."""
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
        """Logits ``[N, classes]``."""
        logits: torch.Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return logits


def network(seed: int = 0) -> MobileNetV2:
    """MobileNetV2 in eval mode; the same ``seed`` gives the same weights."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = MobileNetV2()
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_in")
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.05)
                nn.init.normal_(layer.bias, std=0.05)  # zeros would be dropped on export
            elif isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None  # the next forward pass sets the statistics instead of blending them in
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # sums over several threads round differently
        model.train()
        model(torch.randn(4, 3, 128, 128))
        torch.set_num_threads(threads)
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 0.1
    model.eval()
    return model


def export(path: Path, seed: int = 0) -> Path:
    """Write ``network(seed)`` as canonical ONNX with input ``image`` float32[1, 3, 224, 224]."""
    from edgepack.export import to_onnx

    return to_onnx(network(seed), INPUTS, path)


if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and one argument
        sys.exit("usage: python -m edgepack.zoo.mobilenet_v2 OUT.onnx")
    export(Path(sys.argv[1]))
