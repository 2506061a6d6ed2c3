"""The figures that one stage finds and others use: of the model on its way, and of its compiled form."""

import json
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, JsonValue

from edgepack.errors import EdgepackError
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
    metrics: dict[str, JsonValue]

    @classmethod
    def of_step(
        cls, method: str, level: Literal["torch", "onnx"], metrics: Mapping[str, Any], facts: ModelFacts
    ) -> Self:
        """The facts after a step, and what its method returned.

        Raises:
            EdgepackError: the metrics are not JSON values.
        """
        for name, value in metrics.items():
            try:
                json.dumps({name: value}, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise EdgepackError(
                    f"{method} returned the metric {name!r} as {value!r:.60}",
                    why=f"a report holds JSON values: {error}",
                    next="return Python numbers, texts, lists and mappings of them, and None for what is not known",
                ) from error
        plain = json.loads(json.dumps(dict(metrics)))
        return cls(level=level, metrics=plain, **facts.model_dump())


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
