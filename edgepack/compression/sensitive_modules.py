"""How much the outputs of a torch module depend on each layer that a step would compress."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from edgepack.compression import sensitive
from edgepack.compression.batches import BATCH, training_feeds
from edgepack.compression.method import Context
from edgepack.compression.sensitive import COMPARED, noise_alone

if TYPE_CHECKING:
    import numpy as np
    import torch

SOURCES = (
    *sensitive.SOURCES,
    "compression/calibration.py",
    "compression/sensitive_modules.py",
    "compression/sensitivity",
)
"""Code that measures modules."""


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
