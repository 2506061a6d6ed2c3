"""The interface of compression methods: a typed object that describes a step's options and requirements and runs it.

A method works on a copy, is deterministic for its options and seeds, and raises
:class:`edgepack.errors.InputError` if the model or the recipe is invalid. Its module must import without torch,
onnx or numpy, because recipes are read without them. docs/add-a-compression-method.md explains how to add one.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args

from edgepack.compression.context import Context, StepFile
from edgepack.errors import InputError
from edgepack.spec import Spec

if TYPE_CHECKING:
    import torch

    from edgepack.torchnet.checkpoint import Rebuild

__all__ = [
    "Arithmetic",
    "Context",
    "EitherMethod",
    "Fit",
    "Level",
    "Method",
    "Metrics",
    "Need",
    "NeedKind",
    "OnnxMethod",
    "Step",
    "StepFile",
    "TorchMethod",
    "TorchResult",
    "Trait",
    "never",
    "nothing",
    "require_consistent",
]

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

Arithmetic = Mapping[str, bool]
"""By target of the recipe, whether its processor computes in float16."""


@dataclass(frozen=True)
class Fit:
    """How a step fits the recipe's targets.

    Attributes:
        problems: options that make no sense for a target: the key to point at, and what is wrong.
        notes: what the step does for which targets, as far as it depends on them.
    """

    problems: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def fits_all(_step: Any, _targets: Arithmetic) -> Fit:
    """Return the fit of a step that makes the same sense for all targets."""
    return Fit()


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


def one_of(step: Step, *names: str) -> tuple[tuple[str, str], ...]:
    """The conflict of a step of which exactly one of several options has to be given; empty if it is."""
    given = [name for name in names if getattr(step, name) is not None]
    if len(given) == 1:
        return ()
    listed = f"{', '.join(names[:-1])} and {names[-1]}"
    if not given:
        return (("method", f"expected one of {listed}"),)
    return ((given[1], f"expected one of {listed}, got {' and '.join(given)}"),)


def unused(step: Step, option: str, *, used: bool, by: str) -> tuple[tuple[str, str], ...]:
    """The conflict of an option that is set and changes nothing; empty if it is used, or has its default.

    Args:
        step: a step.
        option: its name.
        used: whether the step's other options make use of it.
        by: the options that do, for the message.
    """
    if used or getattr(step, option) == type(step).model_fields[option].default:
        return ()
    return ((option, f"`{option}` changes nothing without {by}"),)


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
        destroys: by what an earlier step left, why this method makes no sense after it; or a function of the step that
            returns this.
        conflicts: returns options of a step that contradict each other: the key to point at, and what is wrong.
        by_target: whether a step's result depends on the recipe's targets: only then are ``Context.lanes`` and
            ``Context.float16`` set.
        fit: how a step fits the recipe's targets.
        distributions: packages whose versions may affect the result.
        sources: files and folders with its code: relative to edgepack's package, or absolute. Empty means the whole
            package that defines ``spec``, which is right for external methods.
        origin: the distribution that provides it.
    """

    spec: type[T]
    needs: Callable[[T], tuple[Need, ...]] = nothing
    files: Callable[[T], tuple[StepFile, ...]] = nothing
    leaves: frozenset[Trait] = frozenset()
    destroys: Mapping[Trait, str] | Callable[[T], Mapping[Trait, str]] = field(default_factory=dict)
    conflicts: "Callable[[T], tuple[tuple[str, str], ...]]" = nothing
    by_target: Callable[[T], bool] = never
    fit: Callable[[T, Arithmetic], Fit] = fits_all
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

    def destroyed_by(self, step: T) -> Mapping[Trait, str]:
        """By what an earlier step left, why ``step`` makes no sense after it."""
        return self.destroys(step) if callable(self.destroys) else self.destroys

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
        builds: for a method that replaces the whole module: the ``module:callable`` in a change that builds the new one.
            It is one of the step's ``files``, with ``builds``.
    """

    apply: "Callable[[torch.nn.Module, T, Context], TorchResult]"
    rebuild: "Rebuild | None" = None
    builds: Callable[[Mapping[str, Any]], str] | None = None

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
            fit=torch.fit,
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
