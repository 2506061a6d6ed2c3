"""Figures of a model after a stage, counted and measured on the build host."""

from typing import Self

from pydantic import Field

from edgepack.spec.base import Count, Finite, Spec


class ModelFacts(Spec):
    """A model's cost and accuracy."""

    parameters: Count | None = None
    macs: Count | None = Field(default=None, description="Multiply-accumulates of one inference.")
    size: Count | None = Field(default=None, description="Bytes of the weights or ONNX file at this stage.")
    accuracy: Finite | None = Field(
        default=None, ge=0, le=1, description="Accuracy on the test split, 0 to 1."
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
        return cls(
            stage=stage,
            parameters=facts.parameters,
            macs=facts.macs,
            size=facts.size,
            accuracy=facts.accuracy,
            encodings=facts.encodings,
        )
