"""The figures that several stages share: of a model as it came, and after a compression step."""

from typing import Any, Literal

from pydantic import Field

from edgepack.spec import Input, ModelFacts

SOURCE = "source"  # what the model as it came is called among the steps


class SourceFigures(ModelFacts):
    """The model as it came: a torch source, trained or with its weights, or an .onnx file."""

    level: Literal["torch", "onnx"]
    inputs: tuple[Input, ...]
    changed_by: tuple[str, ...] = Field(
        default=(), description="Methods whose changes its weights file holds."
    )
    training: dict[str, float] | None = Field(
        default=None, description="Loss and accuracies of the training."
    )


class StepFigures(ModelFacts):
    """The model after one compression step, and the method's own figures."""

    level: Literal["torch", "onnx"]
    metrics: dict[str, Any]
