"""One network of the zoo: what it is, what it costs by its publication, how to get it."""

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
    """A network with random weights; ``module:function`` is also what a recipe's ``model.source`` takes."""

    name: str  # its key in edgepack.zoo.NETS
    title: str  # for people
    module: str  # dotted
    inputs: tuple[Input, ...]
    parameters: int  # weights and biases that training learns
    macs: int  # multiply-accumulates of one inference: convolutions and matrix products, nothing else
    source: str  # where the architecture, the parameters and the MACs are published
    function: str = "network"  # of ``module``: seed -> torch.nn.Module
    tokens: int = 0  # integer inputs hold values from 0 to below this: the vocabulary

    def network(self, seed: int = 0) -> "nn.Module":
        """The network in eval mode; the same ``seed`` gives the same weights (with the same torch)."""
        module: nn.Module = getattr(importlib.import_module(self.module), self.function)(seed)
        return module

    def architecture(self) -> "nn.Module":
        """The network in eval mode without values, at next to no cost; ``load_state_dict(..., assign=True)`` gives it some."""
        import torch

        with torch.device("meta"):
            return self.network()

    def samples(self, count: int, seed: int = 0) -> "Mapping[str, np.ndarray]":
        """``count`` random samples: an array ``[count, *input.shape]`` for each input, by its name.

        Floats are standard normal, as normalised images and features nearly are; integers are uniform.
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
        """Write ``network(seed)`` to ``path`` as canonical ONNX with the inputs of ``inputs``; returns ``path``."""
        from edgepack.export import to_onnx

        return to_onnx(self.network(seed), self.inputs, path)
