"""Figures that one stage produces and others use: of the model after each stage, and of the compiled model."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, JsonValue

from edgepack.compression import Step
from edgepack.errors import EdgepackError
from edgepack.lower.result import Kernel
from edgepack.spec import Count, Finite, Input, ModelFacts, Scored, Share, Spec, Tensor, TrainingRecord
from edgepack.spec.encoding import ConstantSummary
from edgepack.spec.memory import MemoryPlan

SOURCE = "source"  # the name of the original model among the steps


class MadeFigures(ModelFacts):
    """A model, and how it came about."""

    seeds: dict[str, int] = Field(default_factory=dict, description="Seeds, by the option that gives them.")
    trainings: tuple[TrainingRecord, ...] = ()
    notes: tuple[str, ...] = Field(default=(), description="What was done to weights to load them.")

    @property
    def warnings(self) -> tuple[str, ...]:
        """The notes, and what became of trainings that diverged."""
        return (*self.notes, *(each.warning for each in self.trainings if each.warning is not None))


class SourceFigures(MadeFigures):
    """The original model: a torch source, trained or with its weights, or an .onnx file."""

    level: Literal["torch", "onnx"]
    inputs: tuple[Input, ...]
    changed_by: tuple[str, ...] = Field(
        default=(), description="Methods whose changes are stored in its weights file."
    )
    training: dict[str, float] | None = Field(default=None, description="Loss and accuracies of training.")


class StepFigures(MadeFigures):
    """The model after one compression step, and the method's own figures."""

    level: Literal["torch", "onnx"]
    metrics: dict[str, JsonValue]

    @classmethod
    def of_step(
        cls,
        step: Step,
        level: Literal["torch", "onnx"],
        metrics: Mapping[str, Any],
        facts: ModelFacts,
        *,
        trainings: Sequence[TrainingRecord] = (),
        notes: Sequence[str] = (),
    ) -> Self:
        """Figures after a step, and the metrics that its method returned.

        Raises:
            EdgepackError: the metrics are not JSON values.
        """
        for name, value in metrics.items():
            try:
                json.dumps({name: value}, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise EdgepackError(
                    f"{step.method} returned the metric {name!r} as {value!r:.60}",
                    why=f"a report holds JSON values: {error}",
                    next="return Python numbers, strings, lists and dicts of them, and None for unknown values",
                ) from error
        plain = json.loads(json.dumps(dict(metrics)))
        return cls(
            level=level,
            metrics=plain,
            seeds=seeds_of(step),
            trainings=tuple(trainings),
            notes=tuple(dict.fromkeys(notes)),
            **facts.model_dump(),
        )


def seeds_of(spec: Spec, within: str = "") -> dict[str, int]:
    """All seeds in a spec, by the option that gives them: ``fine_tune.seed``."""
    found: dict[str, int] = {}
    for name in type(spec).model_fields:
        value, option = getattr(spec, name), f"{within}{name}"
        if name == "seed" and isinstance(value, int):
            found[option] = value
        elif isinstance(value, Spec):
            found |= seeds_of(value, f"{option}.")
    return found


class EvaluateFigures(ModelFacts):
    """Figures of the model in onnxruntime."""

    samples: Count = Field(description="Number of batches in samples.npz.")
    classes: tuple[str, ...]
    vocabulary: tuple[str, ...]
    chance: Share | None = Field(
        default=None, description="Accuracy of always answering the most frequent class of the test split."
    )
    rounding: Finite | None = Field(
        default=None,
        ge=0,
        description="Change of the outputs if values in int8 or float16 round otherwise; None if none are.",
    )
    warnings: tuple[str, ...] = Field(default=(), description="What its samples cannot show.")


class RobustnessFigures(Spec):
    """The metric of one model on corrupted test samples."""

    of: str = Field(description="The step that the model is of, or source.")
    score: Scored | None = Field(default=None, description="The mean over all corruptions and severities.")
    severities: tuple[int, ...]
    corruptions: dict[str, tuple[Finite, ...]] = Field(description="By corruption, a value per severity.")
    fgsm: Scored | None = Field(default=None, description="On adversarial samples, in torch.")


class CompileFigures(Spec):
    """The constants of the library, and what it needs at run time."""

    kernels: tuple[Kernel, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    constants: tuple[ConstantSummary, ...]
    executor: str
    executor_reason: str | None = Field(
        default=None,
        description="Why TVM's virtual machine executes it: what the model's own runtime cannot do.",
    )
    memory: MemoryPlan | None = Field(default=None, description="If the model has its own runtime.")
    runtime: tuple[str, ...]
    warnings: tuple[str, ...] = ()
