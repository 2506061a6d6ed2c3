"""The interface of compression methods: a typed object that describes a step's options and requirements and runs it.

A method works on a copy, is deterministic for its options and seeds, and raises
:class:`edgepack.errors.InputError` if the model or the recipe is invalid. Its module must import without torch,
onnx or numpy, because recipes are read without them. docs/add-a-compression-method.md explains how to add one.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args

from edgepack.base.progress import Progress, silent
from edgepack.errors import EdgepackError, InputError
from edgepack.spec import Input, Metric, Model, Spec, Train

if TYPE_CHECKING:
    import numpy as np
    import torch

    from edgepack.data import Splits
    from edgepack.scoring import Evaluation
    from edgepack.torchnet.checkpoint import Rebuild
    from edgepack.torchnet.objective import Loss, Objective

Level = Literal["torch", "onnx"]
"""What a method modifies: a ``torch.nn.Module`` before export, or an .onnx file after export."""

NeedKind = Literal["labels", "samples", "teacher", "gradients"]

Trait = Literal["sparse", "encoded", "fake-quantized", "quantized", "half"]
"""What a method leaves in a model that a later step may destroy.

``sparse``: weights that are zero, and stay zero in :meth:`Context.train`. ``encoded``: layers that store codes in place
of weights (codebooks, hashes, pulses, bits). ``fake-quantized``: layers with learned quantizers. ``quantized``: Q/DQ.
``half``: weights in a 16-bit type.
"""

Metrics = Mapping[str, Any]
"""Metrics for the report, as JSON values."""


class Step(Spec):
    """A compression step of a recipe: a method's name and its options. Each method defines a subclass."""

    method: str


T = TypeVar("T", bound=Step)


@dataclass(frozen=True)
class Need:
    """A requirement of a step.

    Attributes:
        kind: labelled samples, samples whose labels are not used, the original model, or gradients through it.
        purpose: what it is used for, e.g. ``calibration``.
        option: the key of the step that requires it.
    """

    kind: NeedKind
    purpose: str
    option: str = "method"


@dataclass(frozen=True)
class StepFile:
    """A file or user code that a step refers to: it is checked, part of the cache key, and available in the context.

    Attributes:
        option: its path in the step: ``("teachers", 0, "weights")``.
        value: the value there: a path relative to the recipe, or ``module:callable``.
        kind: which of the two.
        suffixes: allowed suffixes of a file name; empty allows any.
        arguments: parameters that a callable is called with.
    """

    option: tuple[str | int, ...]
    value: str
    kind: Literal["file", "callable"] = "file"
    suffixes: tuple[str, ...] = ()
    arguments: int = 0

    @property
    def role(self) -> str:
        """Its name in the cache key and in the reasons for a re-run: ``teachers.0.weights``."""
        return ".".join(map(str, self.option))


@dataclass(frozen=True)
class Context:
    """What a method may use in addition to the model.

    Files and code are looked up by their value in the step; only those returned by ``Method.files`` are
    available, because others would be missing from the cache key.

    Attributes:
        inputs: the model's inputs, including the batch axis.
        data: labelled samples; a method that requires them declares it in ``needs`` and raises an error if there are none.
        samples: the recipe's inputs without labels, by name, each ``[N, *shape]`` with the batch axis; they satisfy the
            need for samples where there is no ``data``.
        progress: called with the step's progress.
        teacher: builds the original model, before any step; None if not requested or if the model is not a torch one.
        files: the step's files, as returned by ``Method.files``.
        base: the recipe's folder.
        rebuilders: by method, for loading weights from checkpoints.
        metric: the recipe's metric.
        loss_name: the recipe's loss; None is the one that fits the targets.
        source_outputs: the outputs of the original model for the inputs that models are scored on, if the metric compares
            with these.
        lanes: float32 elements in a vector register of the recipe's targets, the widest of them; 1 if the method does not
            declare ``by_target``.
    """

    inputs: tuple[Input, ...]
    data: "Splits | None" = None
    samples: "Mapping[str, np.ndarray] | None" = field(default=None, kw_only=True)
    progress: Progress = field(default=silent)
    teacher: "Callable[[], torch.nn.Module] | None" = None
    files: "tuple[StepFile, ...]" = ()
    base: Path = Path()
    rebuilders: "Mapping[str, Rebuild]" = field(default_factory=dict)
    metric: Metric = field(default=Metric(), kw_only=True)
    loss_name: str | None = field(default=None, kw_only=True)
    source_outputs: "Sequence[np.ndarray] | None" = field(default=None, kw_only=True)

    @property
    def evaluation(self) -> "Evaluation | None":
        """What a model is scored on: inputs, targets and the recipe's metric; None without anything to compare with."""
        from edgepack.scoring import Evaluation, Scorer

        return Evaluation.of(Scorer(self.metric, self.base), self.data, self.samples, self.source_outputs)

    @property
    def loss(self) -> "Loss":
        """The recipe's loss of a batch, for an objective that adds to it."""
        from edgepack.torchnet.losses import loss_of

        return loss_of(self.loss_name, self.base)

    lanes: int = 1

    def score(self, module: "torch.nn.Module") -> float | None:
        """Return the recipe's metric of ``module`` on the test split, for the report only; None without data.

        ``context.higher_is_better`` says which of two values is better.
        """
        from edgepack.torchnet.training import evaluated_outputs

        evaluation = self.evaluation
        return None if evaluation is None else evaluation.value(evaluated_outputs(module, evaluation))

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger score is better."""
        from edgepack.scoring import Scorer

        targets = None if self.evaluation is None else self.evaluation.targets
        return Scorer(self.metric, self.base).higher_is_better(targets)

    def train(
        self, module: "torch.nn.Module", spec: Train, objective: "Objective | None" = None
    ) -> dict[str, float]:
        """Train ``module`` in place as :func:`edgepack.torchnet.training.train` does; zeros of pruned weights stay zero.

        An objective without a loss of its own gets the recipe's. Returns the last epoch's loss, and the metric on both
        splits as ``train_accuracy`` and ``test_accuracy``, named by the metric.

        Raises:
            InputError: there is no data, or as ``train``.
        """
        from edgepack.scoring import Scorer
        from edgepack.torchnet.objective import Objective
        from edgepack.torchnet.sparsity import keeping_zeros
        from edgepack.torchnet.training import train

        if self.data is None:
            raise InputError(
                "training needs samples",
                next="add a data block to the recipe, or remove the option that trains",
            )
        objective = objective or Objective()
        if objective.loss is None:
            objective = replace(objective, loss=self.loss)
        kept = keeping_zeros(module, objective)
        scorer = Scorer(self.metric, self.base)
        return train(module, self.data, spec, self.progress, objective=kept, scorer=scorer)

    def path(self, value: str) -> Path:
        """Return the path of the file that the step refers to as ``value``.

        Raises:
            EdgepackError: it is not in ``Method.files``.
        """
        self._require_declared(value, "file")
        return self.base / value

    def function(self, reference: str) -> "Callable[..., Any]":
        """Return the callable for ``module:callable``; its exceptions are reported with the user's file and line.

        Raises:
            EdgepackError: it is not in ``Method.files``.
            InputError: the module cannot be imported, or has no such callable.
        """
        from edgepack.data.user_code import call_user_code, importable, resolve

        self._require_declared(reference, "callable")
        with importable(self.base):
            function = resolve(reference, self.base)

        def call(*args: Any) -> Any:
            with importable(self.base):
                return call_user_code(function, reference, self.base, *args)

        return call

    def module(self, source: str, weights: str | None = None) -> "torch.nn.Module":
        """Build the module for ``module:callable`` in eval mode, with weights loaded from a file.

        Used for teachers; a step may have several. Weights may be a checkpoint written by edgepack.

        Raises:
            EdgepackError: one of them is not in ``Method.files``.
            InputError: as for ``model.source`` and ``model.weights`` of a recipe.
        """
        from edgepack.torchnet.source import load_source

        self._require_declared(source, "callable")
        if weights is not None:
            self._require_declared(weights, "file")
        return load_source(Model(source=source, weights=weights), self.base, self.rebuilders).module

    def _require_declared(self, value: str, kind: str) -> None:
        if not any(file.value == value and file.kind == kind for file in self.files):
            raise EdgepackError(
                f"the method uses the {kind} {value!r}, which its files(step) does not return",
                why="everything that a step reads must be in its cache key",
                next="return a StepFile for it from the method's files",
            )


@dataclass(frozen=True)
class TorchResult:
    """The result of a method on torch.

    Attributes:
        module: a new module, in eval mode.
        metrics: metrics for the report.
        change: what ``rebuild`` needs to recreate the new structure from the old one, as JSON values; None if only
            weights and the sizes of torch's own layers changed, which checkpoints store themselves.
    """

    module: "torch.nn.Module"
    metrics: Metrics
    change: Mapping[str, Any] | None = None


def nothing(_step: Any) -> tuple[Any, ...]:
    """Return no needs, no files, or no conflicts."""
    return ()


def require_consistent(step: Step, conflicts: tuple[tuple[str, str], ...]) -> None:
    """Refuse options that contradict each other, for a step that no recipe's check has seen.

    Raises:
        InputError: with the first of the conflicts.
    """
    for option, message in conflicts:
        raise InputError(message, where=f"compress, {step.method}, {option}")


def never(_step: Any) -> bool:
    """Whether the result depends on the targets: it does not."""
    return False


@dataclass(frozen=True, kw_only=True)
class Method(ABC, Generic[T]):
    """A compression method.

    Attributes:
        spec: the step in recipes: frozen, strict, ``method: Literal["its-name"]`` and its options.
        needs: returns the step's requirements, depending on its options.
        files: returns the files and user code that the step refers to.
        leaves: what its result has that a later step may destroy.
        destroys: by what an earlier step left, why this method makes no sense after it.
        conflicts: returns options of a step that contradict each other: the key to point at, and what is wrong.
        by_target: whether a step's result depends on the recipe's targets: only then is ``Context.lanes`` set.
        distributions: packages whose versions may affect the result.
        sources: files and folders with its code: relative to edgepack's package, or absolute. Empty means the whole
            package that defines ``spec``, which is right for external methods.
        origin: the distribution that provides it.
    """

    spec: type[T]
    needs: Callable[[T], tuple[Need, ...]] = nothing
    files: Callable[[T], tuple[StepFile, ...]] = nothing
    leaves: frozenset[Trait] = frozenset()
    destroys: Mapping[Trait, str] = field(default_factory=dict)
    conflicts: "Callable[[T], tuple[tuple[str, str], ...]]" = nothing
    by_target: Callable[[T], bool] = never
    distributions: tuple[str, ...] = ()
    sources: tuple[str | Path, ...] = ()
    origin: str = "edgepack"

    @property
    def name(self) -> str:
        """Its name in recipes."""
        (name,) = get_args(self.spec.model_fields["method"].annotation)
        return str(name)

    @property
    @abstractmethod
    def levels(self) -> tuple[Level, ...]:
        """What it can modify; the first of them that the model still has is used."""

    @abstractmethod
    def on(self, level: Level) -> "TorchMethod[T] | OnnxMethod[T]":
        """Return the method for one of its levels.

        Raises:
            ValueError: it has no such level.
        """

    @property
    def summary(self) -> str:
        """First line of its spec's docstring."""
        return (self.spec.__doc__ or "").strip().partition("\n")[0]

    def tools(self) -> tuple[str, ...]:
        """Packages whose versions may affect its result, including its own."""
        return self.distributions if self.origin == "edgepack" else (self.origin, *self.distributions)

    def code(self) -> tuple[str | Path, ...]:
        """Files and folders that affect its result: ``sources``, or the package of ``spec``."""
        if self.sources:
            return self.sources
        package = sys.modules[self.spec.__module__.partition(".")[0]]
        if package.__file__ is None:
            return tuple(Path(folder) for folder in package.__path__)
        file = Path(package.__file__)
        return (file.parent if file.name == "__init__.py" else file,)


@dataclass(frozen=True, kw_only=True)
class TorchMethod(Method[T]):
    """A method on ``torch.nn.Module``; these steps of a recipe run before export.

    Attributes:
        apply: compresses a copy of the given module.
        rebuild: repeats the change of a :class:`TorchResult` on a new module when a checkpoint is loaded; required
            if ``apply`` returns a change.
    """

    apply: "Callable[[torch.nn.Module, T, Context], TorchResult]"
    rebuild: "Rebuild | None" = None

    @property
    def levels(self) -> tuple[Level, ...]:
        """What it can modify."""
        return ("torch",)

    def on(self, level: Level) -> "TorchMethod[T]":
        """Return the method itself."""
        if level != "torch":
            raise ValueError(f"{self.name} does not work on .onnx files")
        return self


@dataclass(frozen=True, kw_only=True)
class OnnxMethod(Method[T]):
    """A method on .onnx files in canonical form; these steps of a recipe run after export.

    Attributes:
        apply: compresses the first file and writes the result to the second, in canonical form.
    """

    apply: Callable[[Path, Path, T, Context], Metrics]

    @property
    def levels(self) -> tuple[Level, ...]:
        """What it can modify."""
        return ("onnx",)

    def on(self, level: Level) -> "OnnxMethod[T]":
        """Return the method itself."""
        if level != "onnx":
            raise ValueError(f"{self.name} does not work on torch modules")
        return self


@dataclass(frozen=True, kw_only=True)
class EitherMethod(Method[T]):
    """A method for both levels, under one name: on the torch module if the model is one at that place, else on the file.

    The two share ``spec``, ``files``, ``leaves``, ``destroys`` and ``conflicts``; what a step needs may differ. Create it with
    :meth:`of`.

    Attributes:
        torch: the method on torch modules.
        onnx: the method on .onnx files.
    """

    torch: TorchMethod[T]
    onnx: OnnxMethod[T]

    @classmethod
    def of(cls, torch: TorchMethod[T], onnx: OnnxMethod[T]) -> "EitherMethod[T]":
        """Join the two; what they share is that of ``torch``."""
        return cls(
            spec=torch.spec,
            files=torch.files,
            leaves=torch.leaves,
            destroys=torch.destroys,
            conflicts=torch.conflicts,
            by_target=torch.by_target,
            distributions=tuple(dict.fromkeys((*torch.distributions, *onnx.distributions))),
            sources=tuple(dict.fromkeys((*torch.sources, *onnx.sources))),
            torch=torch,
            onnx=onnx,
        )

    @property
    def levels(self) -> tuple[Level, ...]:
        """What it can modify."""
        return ("torch", "onnx")

    def on(self, level: Level) -> TorchMethod[T] | OnnxMethod[T]:
        """Return the method for ``level``."""
        return replace(self.torch if level == "torch" else self.onnx, origin=self.origin)
