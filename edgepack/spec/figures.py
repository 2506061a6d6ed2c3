"""Figures of a model after a stage, counted and measured on the build host."""

from typing import Self

from pydantic import Field

from edgepack.spec.base import Count, Finite, Spec
from edgepack.spec.task import Scored


class ModelFacts(Spec):
    """A model's cost and its score."""

    parameters: Count | None = None
    nonzeros: Count | None = Field(default=None, description="Parameters that are not zero.")
    macs: Count | None = Field(default=None, description="Multiply-accumulates of one inference.")
    size: Count | None = Field(default=None, description="Bytes of the weights or ONNX file at this stage.")
    weights_size: Count | None = Field(
        default=None, description="Bytes that the weights take in a bundle, entropy coded: an estimate."
    )
    weights_memory: Count | None = Field(
        default=None, description="Bytes of the weights in memory, all decoded when the model is loaded."
    )
    score: Scored | None = Field(default=None, description="The recipe's metric on the test split.")
    robust: Scored | None = Field(
        default=None, description="The metric under corruption: the mean over corruptions and severities."
    )
    encodings: dict[str, Count] = Field(
        default_factory=dict, description="Stored bytes of an ONNX file's constants, by encoding."
    )


class ModelFigures(ModelFacts):
    """The figures of the model after one stage: ``source``, then each compression step."""

    stage: str

    @classmethod
    def of(cls, stage: str, facts: ModelFacts) -> Self:
        """Figures after the stage of this name."""
        return cls(stage=stage, **{name: getattr(facts, name) for name in ModelFacts.model_fields})


class TrainingRecord(Spec):
    """One training of a stage."""

    epochs: int = Field(ge=1, description="Passes over the training split that were asked for.")
    kept: int = Field(
        ge=1, description="The epoch whose weights are kept: the last, unless training diverged."
    )
    loss: Finite = Field(description="Mean over the batches of that epoch.")
    seed: int
    diverged: str | None = Field(default=None, description="What became NaN or infinite, and when.")

    @property
    def warning(self) -> str | None:
        """What to tell the user if it diverged."""
        if self.diverged is None:
            return None
        return (
            f"training diverged: {self.diverged} of {self.epochs}; the weights after epoch {self.kept} are kept "
            f"(mean loss {self.loss:.4g}); lower lr"
        )
