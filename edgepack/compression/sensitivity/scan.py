"""Change one layer at a time, and measure what that does to the outputs."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.base.progress import Progress, silent
from edgepack.compression.sensitivity.probes import PROBES, Edit, Probe
from edgepack.spec.sensitivity import LayerSensitivity, SensitivityPoint

if TYPE_CHECKING:
    import numpy as np

    Outputs = list[np.ndarray]

EXACT = 200.0
"""The signal-to-noise ratio, in dB, that is given for outputs without any noise; beyond what float64 resolves."""


@dataclass(frozen=True)
class ProbedLayer:
    """A layer with weights.

    Attributes:
        name: as in the model: of the torch layer, or of the layer or node in an .onnx file.
        operator: the class or operator.
        parameters: elements of its weights, without biases.
    """

    name: str
    operator: str
    parameters: int


class Subject(ABC):
    """A model with samples to run it on; its layers can be changed one at a time."""

    layers: Mapping[str, ProbedLayer]

    @abstractmethod
    def run(self, layer: str | None = None, edit: Edit | None = None) -> "Outputs":
        """Return each of the model's outputs for all samples, ``[N, ...]``, with ``edit`` applied to ``layer``."""


def scan(
    subject: Subject,
    probes: Sequence[Probe] = PROBES,
    *,
    score: "Callable[[Outputs], float] | None" = None,
    progress: Progress = silent,
) -> tuple[LayerSensitivity, ...]:
    """Try every probe on every layer.

    Args:
        subject: the model and its samples.
        probes: what to try.
        score: the metric of the outputs; None if it is not wanted.
        progress: called for each layer.
    """
    reference = subject.run()
    found = []
    for number, (name, layer) in enumerate(subject.layers.items()):
        points = []
        for probe in probes:
            outputs = subject.run(name, probe.edit())
            points.append(
                SensitivityPoint(
                    probe=probe.kind,
                    setting=float(probe.setting),
                    sqnr=round(sqnr(reference, outputs), 3),
                    metric=None if score is None else score(outputs),
                )
            )
        found.append(
            LayerSensitivity(
                name=name, operator=layer.operator, parameters=layer.parameters, points=tuple(points)
            )
        )
        progress(f"layer {number + 1}/{len(subject.layers)}: {name}", (number + 1) / len(subject.layers))
    return tuple(found)


def noise_of(subject: Subject, edits: Mapping[str, Edit], progress: Progress = silent) -> dict[str, float]:
    """Return the signal-to-noise ratio of the outputs, in dB, for each edit of a layer alone."""
    reference = subject.run()
    found = {}
    for number, (name, edit) in enumerate(edits.items()):
        found[name] = sqnr(reference, subject.run(name, edit))
        progress(f"sensitivity of layer {number + 1}/{len(edits)}", (number + 1) / len(edits))
    return found


def sqnr(reference: "Outputs", outputs: "Outputs") -> float:
    """Return the signal-to-noise ratio in dB: of the noise relative to each output's power, averaged over the outputs.

    Outputs that are no floating-point numbers are left out. 0 dB or less means that nothing of the signal is left.
    """
    import numpy as np

    shares = []
    for want, got in zip(reference, outputs, strict=True):
        if want.dtype.kind != "f" or not want.size:
            continue
        wide = want.astype(np.float64)
        usual = np.isfinite(wide)
        noise = np.where(usual, got.astype(np.float64) - np.where(usual, wide, 0), 0)
        power = float(np.square(wide[usual]).sum())
        lost = float(np.square(noise).sum())
        shares.append(lost / power if power > 0 else float(lost > 0))
    share = sum(shares) / len(shares) if shares else 0.0
    if not math.isfinite(share):
        return -EXACT
    return EXACT if share <= 0 else max(-EXACT, min(EXACT, -10 * math.log10(share)))
