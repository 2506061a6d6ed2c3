"""The networks: where they come from, how they are trained, and on what."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_FASHION = {"idx": {"folder": "/usr/share/datasets/fashion-mnist", "mean": [0.286], "std": [0.353]}}
_CLASSES = ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
_IMAGE = {"name": "image", "shape": [1, 1, 28, 28]}
_BYTES = {"name": "ids", "shape": [1, 64], "dtype": "int64"}


@dataclass(frozen=True)
class TrainedNet:
    """A network of the benchmark.

    Attributes:
        title: its name in tables.
        source: ``module:callable`` of the untrained network.
        given: the input, as in a recipe.
        data: the ``data`` block of a recipe.
        train: epochs, learning rate and batch size of the source model.
        robust: robustness block of a recipe.
    """

    title: str
    source: str
    given: Mapping[str, Any]
    data: Mapping[str, Any]
    train: Mapping[str, Any]
    robust: Mapping[str, Any]


def _fashion(title: str, name: str) -> TrainedNet:
    return TrainedNet(
        f"{title}, Fashion-MNIST",
        f"edgepack.zoo.fashion:{name}",
        _IMAGE,
        {"idx": {**_FASHION["idx"], "classes": _CLASSES}},
        {"epochs": 6, "lr": 0.002, "batch_size": 128},
        {"severities": [1, 3, 5], "samples": 1000, "fgsm": 0.05},
    )


def _snippets(title: str, name: str) -> TrainedNet:
    return TrainedNet(
        f"{title}, source code or prose",
        f"edgepack.zoo.snippets:{name}",
        _BYTES,
        {"source": "edgepack.zoo.snippets:splits"},
        {"epochs": 12, "lr": 0.002, "batch_size": 64},
        {"severities": [1, 3, 5], "samples": 600},
    )


NETS: Mapping[str, TrainedNet] = {
    "vgg": _fashion("VGG-like", "vgg"),
    "resnet20": _fashion("ResNet-20-like", "resnet20"),
    "separable": _fashion("Depthwise-separable", "separable"),
    "digits": TrainedNet(
        "Digits network, digits",
        "edgepack.zoo.digits:network",
        {"name": "image", "shape": [1, 1, 8, 8]},
        {"source": "edgepack.zoo.digits:splits"},
        {"epochs": 30, "lr": 0.002, "batch_size": 64},
        {"severities": [1, 3, 5], "samples": 359, "fgsm": 0.05},
    ),
    "lstm": _snippets("LSTM", "lstm"),
    "gru": _snippets("GRU", "gru"),
    "transformer": _snippets("Transformer", "transformer"),
}


def recipe(net: TrainedNet, seed: int, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the recipe that trains ``net`` from ``seed``, compresses it by ``steps`` and builds a bundle for x86-64."""
    return {
        "edgepack": 1,
        "name": "benchmark",
        "version": "0.0.0",
        "model": {
            "source": net.source,
            "train": {**net.train, "seed": seed},
            "inputs": [dict(net.given)],
        },
        "data": dict(net.data),
        "robustness": dict(net.robust),
        **({"compress": steps} if steps else {}),
        "tune": {"trials": 0},
        "bench": {"baseline": False},
        "targets": [{"target": "x86-64-v3"}],
    }
