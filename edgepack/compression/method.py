"""The contract of a compression method: a typed object that says what a step may ask for and does the step.

A method works on a copy, is deterministic for its options and seeds, and raises
:class:`edgepack.errors.InputError` where the model or the recipe is at fault. Its module must import without torch,
onnx or numpy, because recipes are read without them. docs/add-a-compression-method.md adds one.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args

from edgepack.base.progress import Progress, silent
from edgepack.errors import EdgepackError
from edgepack.spec import Input, Model, Spec

if TYPE_CHECKING:
    import torch

    from edgepack.data import Splits
    from edgepack.torchnet.checkpoint import Rebuild

Level = Literal["torch", "onnx"]
"""What a method changes: a ``torch.nn.Module`` before the export, or an .onnx file after it."""

NeedKind = Literal["labels", "samples", "teacher", "gradients"]

Metrics = Mapping[str, Any]
"""Figures for the report, as JSON values."""


class Step(Spec):
    """One compression step of a recipe: a method's name and its options. Each method has a subclass of its own."""

    method: str


T = TypeVar("T", bound=Step)


@dataclass(frozen=True)
class Need:
    """Something a step cannot do without.

    Attributes:
        kind: labelled samples, samples whose labels do not matter, the model as it came, or gradients through it.
        purpose: what it is for, in words: ``calibration``.
        option: the key of the step that asks for it.
    """

    kind: NeedKind
    purpose: str
    option: str = "method"


@dataclass(frozen=True)
class StepFile:
    """A file or user code that a step names: it is checked, part of the cache key, and found through the context.

    Attributes:
        option: where it stands in the step: ``("teachers", 0, "weights")``.
        value: what stands there: a path relative to the recipe, or ``module:callable``.
        kind: which of the two.
        suffixes: what the name of a file must end in; empty for anything.
        arguments: what a callable is called with.
    """

    option: tuple[str | int, ...]
    value: str
    kind: Literal["file", "callable"] = "file"
    suffixes: tuple[str, ...] = ()
    arguments: int = 0

    @property
    def role(self) -> str:
        """What it is called in the cache key and in the reasons for a re-run: ``teachers.0.weights``."""
        return ".".join(map(str, self.option))


@dataclass(frozen=True)
class Context:
    """What a method may use besides the model.

    Files and code that the step names are asked for by what stands in the step, and only those that ``Method.files``
    gives can be had: others would be missing in the cache key.

    Attributes:
        inputs: the model's inputs, batch included.
        data: samples; a method that needs them says so in ``needs`` and when there are none.
        progress: told how far the step is.
        teacher: builds the model as it came, before any step; None where nothing was asked or the model is no torch one.
        files: those of the step, as ``Method.files`` gives them.
        base: the recipe's folder.
        rebuilders: by method, for weights of modules that are checkpoints.
    """

    inputs: tuple[Input, ...]
    data: "Splits | None" = None
    progress: Progress = field(default=silent)
    teacher: "Callable[[], torch.nn.Module] | None" = None
    files: "tuple[StepFile, ...]" = ()
    base: Path = Path()
    rebuilders: "Mapping[str, Rebuild]" = field(default_factory=dict)

    def path(self, value: str) -> Path:
        """The file that the step names ``value``.

        Raises:
            EdgepackError: ``Method.files`` does not give it.
        """
        self._given(value, "file")
        return self.base / value

    def function(self, reference: str) -> "Callable[..., Any]":
        """The callable that the step names ``module:callable``; what it raises is told with the user's file and line.

        Raises:
            EdgepackError: ``Method.files`` does not give it.
            InputError: the module cannot be imported, or has no such callable.
        """
        from edgepack.data.user_code import call_user_code, importable, resolve

        self._given(reference, "callable")
        with importable(self.base):
            function = resolve(reference, self.base)

        def call(*args: Any) -> Any:
            with importable(self.base):
                return call_user_code(function, reference, self.base, *args)

        return call

    def module(self, source: str, weights: str | None = None) -> "torch.nn.Module":
        """The ``torch.nn.Module`` in eval mode that the step names by ``module:callable``, with weights from a file.

        For teachers: a step may have several. Weights may be a checkpoint that edgepack compressed.

        Raises:
            EdgepackError: ``Method.files`` does not give them.
            InputError: as for ``model.source`` and ``model.weights`` of a recipe.
        """
        from edgepack.torchnet.source import load_source

        self._given(source, "callable")
        if weights is not None:
            self._given(weights, "file")
        return load_source(Model(source=source, weights=weights), self.base, self.rebuilders).module

    def _given(self, value: str, kind: str) -> None:
        if not any(file.value == value and file.kind == kind for file in self.files):
            raise EdgepackError(
                f"the method asks for the {kind} {value!r}, which its files(step) does not give",
                why="what a step reads has to be in its cache key",
                next="add a StepFile to the method's files",
            )


@dataclass(frozen=True)
class TorchResult:
    """What a method on torch returns.

    Attributes:
        module: a new module, in eval mode.
        metrics: figures for the report.
        change: what ``rebuild`` needs to make the new structure out of the old one, as JSON values; None where only
            weights and the sizes of torch's own layers changed, which checkpoints keep by themselves.
    """

    module: "torch.nn.Module"
    metrics: Metrics
    change: Mapping[str, Any] | None = None


def nothing(_step: Any) -> tuple[Any, ...]:
    """The needs, or files, of a method that has none."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Method(ABC, Generic[T]):
    """A compression method.

    Attributes:
        spec: the step as recipes write it: frozen, strict, ``method: Literal["its-name"]`` and its options.
        needs: what a step needs of the recipe, by its options.
        files: the files and user code that a step names, by its options.
        distributions: packages by whose versions its result may differ.
        sources: files and folders with its code: relative to edgepack's package, or absolute. Empty for all of the
            package that ``spec`` is defined in, which is right for methods from elsewhere.
        origin: the distribution that brings it.
    """

    spec: type[T]
    needs: Callable[[T], tuple[Need, ...]] = nothing
    files: Callable[[T], tuple[StepFile, ...]] = nothing
    distributions: tuple[str, ...] = ()
    sources: tuple[str | Path, ...] = ()
    origin: str = "edgepack"

    @property
    def name(self) -> str:
        """What recipes call it."""
        (name,) = get_args(self.spec.model_fields["method"].annotation)
        return str(name)

    @property
    @abstractmethod
    def level(self) -> Level:
        """What it changes."""

    @property
    def summary(self) -> str:
        """The first line of its spec's docstring."""
        return (self.spec.__doc__ or "").strip().partition("\n")[0]

    def tools(self) -> tuple[str, ...]:
        """The packages by whose versions its result may differ, its own among them."""
        return self.distributions if self.origin == "edgepack" else (self.origin, *self.distributions)

    def code(self) -> tuple[str | Path, ...]:
        """The files and folders that shape its result: ``sources``, or where ``spec`` comes from."""
        if self.sources:
            return self.sources
        package = sys.modules[self.spec.__module__.partition(".")[0]]
        if package.__file__ is None:
            return tuple(Path(folder) for folder in package.__path__)
        file = Path(package.__file__)
        return (file.parent if file.name == "__init__.py" else file,)


@dataclass(frozen=True, kw_only=True)
class TorchMethod(Method[T]):
    """A method on ``torch.nn.Module``: all such steps of a recipe run before the export.

    Attributes:
        apply: compresses a copy of the module it is given.
        rebuild: makes the change of a :class:`TorchResult` again on a fresh module, when a checkpoint is read; needed
            where ``apply`` returns a change.
    """

    apply: "Callable[[torch.nn.Module, T, Context], TorchResult]"
    rebuild: "Rebuild | None" = None

    @property
    def level(self) -> Level:
        """What it changes."""
        return "torch"


@dataclass(frozen=True, kw_only=True)
class OnnxMethod(Method[T]):
    """A method on .onnx files in canonical form: all such steps of a recipe run after the export.

    Attributes:
        apply: compresses the first file into the second, canonical again.
    """

    apply: Callable[[Path, Path, T, Context], Metrics]

    @property
    def level(self) -> Level:
        """What it changes."""
        return "onnx"
