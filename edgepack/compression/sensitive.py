"""Which layers a step leaves alone: those that its patterns name, or those that the outputs depend on too much.

For the latter, each layer alone is compressed as the step would, and the outputs on training samples are compared.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from edgepack.compression.batches import BATCH, training_feeds
from edgepack.compression.method import Context, Need
from edgepack.compression.selection import Skip

if TYPE_CHECKING:
    import numpy as np
    import torch

COMPARED = 64
"""Training samples on which outputs are compared."""

SOURCES = (
    "compression/batches.py",
    "compression/calibration.py",
    "compression/selection.py",
    "compression/sensitive.py",
    "compression/sensitivity",
)


def samples_for(skip: Skip) -> tuple[Need, ...]:
    """Return the need for samples, if ``skip`` asks for measurements."""
    return () if isinstance(skip, tuple) else (Need("samples", "measuring sensitivity", "skip"),)


def noise_of_modules(
    module: "torch.nn.Module",
    alone: "Mapping[str, Callable[[], torch.nn.Module]]",
    context: Context,
    *,
    samples: int = COMPARED,
    seed: int = 0,
) -> dict[str, float]:
    """Return the signal-to-noise ratio of the outputs in dB by layer.

    Args:
        module: the model before the step, in eval mode.
        alone: by layer, a function that returns the model with this layer alone compressed.
        context: of the step.
        samples: how many to compare.
        seed: for choosing them.
    """
    from edgepack.compression.sensitivity.torch_level import outputs_of

    feeds = training_feeds(context, samples, seed, batch=BATCH)

    def outputs(make: "Callable[[], torch.nn.Module]") -> "list[np.ndarray]":
        return outputs_of(make(), feeds)

    changes = {name: partial(outputs, make) for name, make in alone.items()}
    return noise_alone(outputs_of(module, feeds), changes, context)


def noise_alone(
    reference: "Sequence[np.ndarray]",
    alone: "Mapping[str, Callable[[], Sequence[np.ndarray]]]",
    context: Context,
) -> dict[str, float]:
    """Return the signal-to-noise ratio of the outputs in dB by layer.

    Args:
        reference: outputs of the model before the step.
        alone: by layer, a function that returns the outputs with this layer alone compressed.
        context: of the step, for its progress.
    """
    from edgepack.compression.sensitivity.scan import sqnr

    found: dict[str, Any] = {}
    for number, (name, outputs) in enumerate(alone.items()):
        found[name] = sqnr(list(reference), list(outputs()))
        context.progress(f"sensitivity of {name}", (number + 1) / len(alone))
    return found
