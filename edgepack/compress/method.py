"""The contract of a compression method: what its module holds, what it is given, what it returns.

A method is a module in this folder with

- ``STAGE``: ``"torch"`` if it changes a ``torch.nn.Module``, ``"onnx"`` if it changes an .onnx file.
  All torch steps of a recipe run before the export, all ONNX steps after it.
- one frozen :class:`edgepack.spec.Spec` with ``method: Literal["its-name"]`` and its options; the
  module must import without torch, onnx or numpy, because recipes are read without them.
- ``apply``: :class:`TorchMethod` or :class:`OnnxMethod` below.

A method works on a copy, is deterministic for its options and seeds, and raises
:class:`edgepack.errors.InputError` where the model or the recipe is at fault.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from edgepack.torchnet.training import Progress, silent

if TYPE_CHECKING:
    import torch

    from edgepack.data import Splits
    from edgepack.spec import Input

Metrics = Mapping[str, Any]
"""Figures for the report, as JSON values."""


@dataclass(frozen=True)
class Context:
    """What a method may use besides the model."""

    inputs: "tuple[Input, ...]"  # the model's inputs, batch included
    data: "Splits | None" = None  # a method that needs samples says so when there are none
    progress: Progress = field(default=silent)


@dataclass(frozen=True)
class Result:
    """What a torch method returns: a new module, in eval mode, and its figures."""

    module: "torch.nn.Module"
    metrics: Metrics


class TorchMethod(Protocol):
    """A method on ``torch.nn.Module``."""

    STAGE: Literal["torch"]

    def apply(self, module: "torch.nn.Module", step: Any, context: Context) -> Result:
        """Compress a copy of ``module``."""
        ...


class OnnxMethod(Protocol):
    """A method on .onnx files in canonical form."""

    STAGE: Literal["onnx"]

    def apply(self, model: Path, out: Path, step: Any, context: Context) -> Metrics:
        """Compress ``model`` into ``out``, canonical again."""
        ...
