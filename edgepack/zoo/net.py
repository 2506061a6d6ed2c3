"""One network of the zoo: description, published size, and how to build it."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.spec import Input

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


@dataclass(frozen=True)
class Net:
    """A network with random weights; ``module:function`` can be used as a recipe's ``model.source``."""

    name: str  # its key in edgepack.zoo.NETS
    title: str  # display name
    module: str  # dotted name
    inputs: tuple[Input, ...]
    parameters: int  # trainable weights and biases
    macs: int  # multiply-accumulates per inference: only convolutions and matrix products
    source: str  # publication of the architecture, the parameters and the MACs
    function: str = "network"  # of ``module``: seed -> torch.nn.Module
    tokens: int = 0  # vocabulary size: integer inputs are between 0 and tokens - 1

    def network(self, seed: int = 0) -> "nn.Module":
        """Return the network in eval mode; the same ``seed`` gives the same weights (with the same torch)."""
        module: nn.Module = getattr(importlib.import_module(self.module), self.function)(seed)
        return module

    def architecture(self) -> "nn.Module":
        """Return the network in eval mode without values, at little cost; set them with ``load_state_dict(..., assign=True)``."""
        import torch

        with torch.device("meta"):
            return self.network()

    def samples(self, count: int, seed: int = 0) -> "Mapping[str, np.ndarray]":
        """Return ``count`` random samples: an array ``[count, *input.shape]`` per input, by name.

        Floats are standard normal, like normalised images and features; integers are uniform.
        """
        import numpy as np

        random = np.random.default_rng(seed)
        arrays = {}
        for spec in self.inputs:
            shape = (count, *spec.shape)
            if np.issubdtype(np.dtype(spec.dtype), np.floating):
                arrays[spec.name] = random.standard_normal(shape, dtype=np.float32).astype(spec.dtype)
            else:
                arrays[spec.name] = random.integers(self.tokens, size=shape, dtype=spec.dtype)
        return arrays

    def export(self, path: Path, seed: int = 0) -> Path:
        """Export ``network(seed)`` to ``path`` as canonical ONNX with the inputs of ``inputs``; returns ``path``."""
        from edgepack.export import to_onnx

        return to_onnx(self.network(seed), self.inputs, path)
