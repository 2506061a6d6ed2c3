"""What a model is for: how its outputs are scored, and what it is trained on."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from edgepack.spec.base import Count, Finite, Reference, Spec

BuiltInMetric = Literal["accuracy", "top5", "f1", "miou", "mse", "mae", "sqnr", "agreement"]
BuiltInLoss = Literal["cross-entropy", "mse", "mae"]


class Metric(Spec):
    """The metric of a model."""

    name: BuiltInMetric | Reference | None = Field(
        default=None, description="None is accuracy for integer targets, mse for others."
    )
    higher_is_better: bool | None = Field(default=None, description="Needed with module:callable.")


class Score(Spec):
    """A metric's value on some samples, with its 95 % interval."""

    metric: str = Field(description="A built-in metric, or the name of the user's callable.")
    value: Finite
    low: Finite | None = Field(default=None, description="Lower end of the 95 % interval.")
    high: Finite | None = Field(default=None, description="Upper end of the 95 % interval.")
    higher_is_better: bool = True
    samples: Count | None = Field(default=None, description="Samples that it was computed on.")

    @property
    def is_share(self) -> bool:
        """Whether its values are from 0 to 1, and shown as percent."""
        return self.metric in {"accuracy", "top5", "f1", "miou", "agreement"}

    def drop_to(self, other: float) -> float:
        """How much worse another value of this metric is; negative if it is better."""
        return self.value - other if self.higher_is_better else other - self.value


def _of_accuracy(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"metric": "accuracy", "value": float(value)} if number else value


Scored = Annotated[Score, BeforeValidator(_of_accuracy)]
"""A score; a plain number is an accuracy, as documents of older versions have it."""
