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
from edgepack.spec import Input, Spec

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
class Context:
    """What a method may use besides the model.

    Attributes:
        inputs: the model's inputs, batch included.
        data: samples; a method that needs them says so in ``needs`` and when there are none.
        progress: told how far the step is.
        teacher: builds the model as it came, before any step; None where nothing was asked or the model is no torch one.
    """

    inputs: tuple[Input, ...]
    data: "Splits | None" = None
    progress: Progress = field(default=silent)
    teacher: "Callable[[], torch.nn.Module] | None" = None


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


def nothing(_step: Any) -> tuple[Need, ...]:
    """The needs of a method that has none."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Method(ABC, Generic[T]):
    """A compression method.

    Attributes:
        spec: the step as recipes write it: frozen, strict, ``method: Literal["its-name"]`` and its options.
        needs: what a step needs of the recipe, by its options.
        distributions: packages by whose versions its result may differ.
        sources: files and folders with its code: relative to edgepack's package, or absolute. Empty for all of the
            package that ``spec`` is defined in, which is right for methods from elsewhere.
        origin: the distribution that brings it.
    """

    spec: type[T]
    needs: Callable[[T], tuple[Need, ...]] = nothing
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
