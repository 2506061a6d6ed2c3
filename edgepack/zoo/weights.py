"""Random weights with which activations neither vanish nor explode; the same for the same seed.

Convolutions and linear layers follow He et al. 2015 (arXiv:1502.01852). Batch normalisation then gets the
statistics of the network's own activations, so that every layer's values have about unit variance and the
outputs depend on the input. Biases are small but not zero, because zeros would be dropped on export. Embeddings
and recurrent layers keep torch's own initialisation.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import nn

_BIAS = 0.05  # standard deviation
_SCALE = 0.1  # standard deviation of layer normalisation's weights around 1
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)

Module = TypeVar("Module", bound=nn.Module)


def untrained(make: Callable[[], Module]) -> Module:
    """Build a module with ``make`` and torch's own initialisation, always the same; torch's random state is preserved."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def init_seeded(make: Callable[[], Module], seed: int, sample: tuple[int, ...] | None = None) -> Module:
    """Build a module with ``make``, with random weights from ``seed``, in eval mode.

    ``sample`` is the shape of the standard normal batch that sets the statistics of batch normalisation;
    networks without it do not need one. torch's own random state is preserved. Under ``torch.device("meta")``
    the module has shapes but no values, at little cost.
    """
    if torch.get_default_device().type == "meta":
        model = make()
        model.eval()
        return model
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = make()
        for layer in model.modules():
            _initialise(layer)
        if sample is not None:
            _set_statistics(model, torch.randn(sample))
    model.eval()
    return model


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, (nn.Conv2d, nn.Linear)):
        nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
    elif isinstance(layer, nn.LayerNorm):
        nn.init.normal_(layer.weight, mean=1.0, std=_SCALE)
    else:
        return
    if layer.bias is not None:
        nn.init.normal_(layer.bias, std=_BIAS)


def _set_statistics(model: nn.Module, batch: torch.Tensor) -> None:
    norms = [layer for layer in model.modules() if isinstance(layer, _NORMS)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 1.0  # the next forward pass sets the statistics instead of averaging them
    model.train()
    with _one_thread():
        model(batch)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread, because sums over several threads round differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
