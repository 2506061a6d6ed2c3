"""What a model is tested with besides its test split."""

from typing import Annotated

from pydantic import Field

from edgepack.spec.base import Spec


class Robustness(Spec):
    """Measure the metric under a fixed set of corruptions, of the source model and after every step."""

    severities: tuple[Annotated[int, Field(ge=1, le=5)], ...] = Field(
        default=(1, 3, 5), description="Severities of every corruption, 1 to 5."
    )
    samples: int = Field(default=256, ge=1, description="Test samples, evenly spaced over the split.")
    fgsm: float | None = Field(
        default=None,
        gt=0,
        description="Also attack models in torch with a step of this size along the sign of the gradient, in units of the samples.",
    )
