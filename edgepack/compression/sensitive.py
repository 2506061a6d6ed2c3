"""Which layers a step leaves alone: those that its patterns name, or those that the outputs depend on too much.

For the latter, each layer alone is compressed as the step would, and the outputs on training samples are compared.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgepack.compression.method import Context, Need
from edgepack.compression.selection import Skip

if TYPE_CHECKING:
    import numpy as np

COMPARED = 64
"""Training samples on which outputs are compared."""

SOURCES = (
    "compression/batches.py",
    "compression/selection.py",
    "compression/sensitive.py",
    "compression/sensitivity/probes.py",
    "compression/sensitivity/scan.py",
)


def samples_for(skip: Skip) -> tuple[Need, ...]:
    """Return the need for samples, if ``skip`` asks for measurements."""
    return () if isinstance(skip, tuple) else (Need("samples", "measuring sensitivity", "skip"),)


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
