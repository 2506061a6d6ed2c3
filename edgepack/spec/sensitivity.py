"""How much each layer of a model tolerates: the noise at the outputs, and the metric, when one layer alone is changed."""

from typing import Literal

from pydantic import Field

from edgepack.spec.base import Count, Finite, Spec

ProbeKind = Literal["weights", "activations", "prune", "rank"]
"""What is done to a layer: its weights or its input rounded to a number of bits, a share of its smallest weights set to
zero, its weights replaced by those of a share of their full rank."""


class SensitivityPoint(Spec):
    """The outputs of the model when one layer is changed."""

    probe: ProbeKind
    setting: Finite = Field(description="Bits, or a share from 0 to 1.")
    sqnr: Finite = Field(description="Signal-to-noise ratio of the outputs, in dB: higher is better.")
    metric: Finite | None = Field(default=None, description="The metric on the same samples.")


class LayerSensitivity(Spec):
    """One layer, and what each probe of it does to the outputs."""

    name: str
    operator: str
    parameters: Count
    points: tuple[SensitivityPoint, ...]
