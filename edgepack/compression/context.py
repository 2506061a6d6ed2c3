"""What a step may use besides the model: the recipe's data, metric and loss, training, and the files that it names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgepack.base.progress import Progress, silent
from edgepack.errors import EdgepackError, InputError
from edgepack.spec import Input, Metric, Model, Train

if TYPE_CHECKING:
    import numpy as np
    import torch

    from edgepack.data import Splits
    from edgepack.scoring import Evaluation
    from edgepack.torchnet.checkpoint import Rebuild
    from edgepack.torchnet.objective import Loss, Objective
    from edgepack.torchnet.trainings import Trainings


@dataclass(frozen=True)
class StepFile:
    """A file or user code that a step refers to: it is checked, part of the cache key, and available in the context.

    Attributes:
        option: its path in the step: ``("teachers", 0, "weights")``.
        value: the value there: a path relative to the recipe, or ``module:callable``.
        kind: which of the two.
        suffixes: allowed suffixes of a file name; empty allows any.
        arguments: parameters that a callable is called with.
        builds: whether the step's result is a module that this callable builds, so that restoring it needs the callable.
        sha256: the sum that the file must have, if the step gives one under ``sha256`` beside ``option``.
    """

    option: tuple[str | int, ...]
    value: str
    kind: Literal["file", "callable"] = "file"
    suffixes: tuple[str, ...] = ()
    arguments: int = 0
    builds: bool = False
    sha256: str | None = None

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
        float16: whether all targets of the recipe compute in float16; False if the method does not declare ``by_target``.
        trust: whether pickled objects in weights files may be loaded.
        notes: what was done to load modules, for the report.
        trainings: where :meth:`train` records what it did, for the report; None records nothing.
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
    lanes: int = 1
    float16: bool = field(default=False, kw_only=True)
    trust: bool = field(default=False, kw_only=True)
    notes: list[str] = field(default_factory=list, kw_only=True)
    trainings: "Trainings | None" = field(default=None, kw_only=True)

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

    def score(self, module: "torch.nn.Module") -> float | None:
        """Return the recipe's metric of ``module`` on the test split, for the report only; None without data.

        ``context.higher_is_better`` says which of two values is better.
        """
        from edgepack.torchnet.outputs import evaluated_outputs

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

        The training's seed and epochs are recorded for the report, which also warns if it diverged.

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
        return train(
            module,
            self.data,
            spec,
            self.progress,
            objective=kept,
            scorer=scorer,
            trainings=self.trainings,
        )

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
            InputError, TrustError: as for ``model.source`` and ``model.weights`` of a recipe.
        """
        from edgepack.torchnet.source import load_source

        self._require_declared(source, "callable")
        if weights is not None:
            self._require_declared(weights, "file")
        model = Model(source=source, weights=weights)
        loaded = load_source(model, self.base, self.rebuilders, trust=self.trust)
        self.notes.extend(loaded.notes)
        return loaded.module

    def _require_declared(self, value: str, kind: str) -> None:
        if not any(file.value == value and file.kind == kind for file in self.files):
            raise EdgepackError(
                f"the method uses the {kind} {value!r}, which its files(step) does not return",
                why="everything that a step reads must be in its cache key",
                next="return a StepFile for it from the method's files",
            )
