"""The figures that one stage finds and others use: of the model on its way, and of its compiled form."""

from typing import Any, Literal

from pydantic import Field

from edgepack.lower.result import Kernel
from edgepack.spec import Count, Input, ModelFacts, Spec, Tensor
from edgepack.spec.encoding import ConstantSummary

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


class EvaluateFigures(ModelFacts):
    """The model in onnxruntime."""

    samples: Count = Field(description="Batches in samples.npz.")
    classes: tuple[str, ...]
    vocabulary: tuple[str, ...]


class CompileFigures(Spec):
    """What the library holds, and needs at run time."""

    kernels: tuple[Kernel, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    constants: tuple[ConstantSummary, ...]
    executor: str
    runtime: tuple[str, ...]
