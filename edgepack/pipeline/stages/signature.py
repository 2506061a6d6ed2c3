"""What a compression step must leave as it is: the model's inputs and outputs, and the samples that it is scored on."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.compression import Context, Method, Step
from edgepack.data.splits import arrays_of, hash_arrays
from edgepack.errors import InputError
from edgepack.spec import Input

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TensorType:
    """An input or output; the name is empty for outputs of a module, and a size is None where it is not known."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def fits(self, other: "TensorType") -> bool:
        """Whether the other one is the same, as far as both are known."""
        if (self.name, self.dtype) != (other.name, other.dtype):
            return False
        if self.shape is None or other.shape is None:
            return True
        return len(self.shape) == len(other.shape) and all(
            a == b or a is None or b is None for a, b in zip(self.shape, other.shape, strict=True)
        )

    def __str__(self) -> str:
        sizes = "…" if self.shape is None else ", ".join(str(size or "?") for size in self.shape)
        return f"{self.name} {self.dtype}[{sizes}]".strip()


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a model, in order; of a module only the outputs, for given inputs."""

    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]

    @classmethod
    def of_module(cls, module: "torch.nn.Module", inputs: tuple[Input, ...]) -> "Signature":
        """Run the module once on made-up inputs."""
        from torch.utils import _pytree

        from edgepack.torchnet.layers import example_inputs, inference

        with inference(module):
            found = _pytree.tree_leaves(module(*example_inputs(inputs)))
        outputs = (
            TensorType("", str(each.dtype).removeprefix("torch."), tuple(each.shape)) for each in found
        )
        return cls((), tuple(outputs))

    def require_of_module(
        self, module: "torch.nn.Module", inputs: tuple[Input, ...], step: Step, method: Method[Step]
    ) -> None:
        """Compare with those of the module after a step.

        Raises:
            InputError: they are different, or the module does not run on the inputs.
        """
        try:
            after = Signature.of_module(module, inputs)
        except Exception as error:
            raise _changed(step, method, "the model's inputs", f"it does not run on them: {error}") from error
        self.require(after, step, method)

    def require(self, after: "Signature", step: Step, method: Method[Step]) -> None:
        """Compare with those after a step.

        Raises:
            InputError: they are different.
        """
        for what in ("inputs", "outputs"):
            old, new = getattr(self, what), getattr(after, what)
            if len(old) != len(new) or not all(a.fits(b) for a, b in zip(old, new, strict=True)):
                raise _changed(
                    step, method, f"the model's {what}", f"before: {_listed(old)}; after: {_listed(new)}"
                )


@contextmanager
def unchanged_samples(context: Context, step: Step, method: Method[Step]) -> Iterator[None]:
    """Run a step in the block.

    Raises:
        InputError: it has changed what the model is scored on.
    """
    before = _digest(context)
    yield
    if _digest(context) != before:
        raise _changed(
            step,
            method,
            "the samples",
            "its figures would be of other samples than those of the other steps",
        )


def _digest(context: Context) -> str:
    """The sha256 of everything that the model is scored on."""
    found = hashlib.sha256()
    splits = () if context.data is None else (context.data.x_test, context.data.y_test)
    for part in (*splits, context.samples, context.source_outputs):
        hash_arrays(found, part if isinstance(part, list | tuple) else arrays_of(part))
    return found.hexdigest()


def _changed(step: Step, method: Method[Step], what: str, why: str) -> InputError:
    return InputError(
        f"{step.method} changed {what}",
        where=f"compress, {step.method}",
        why=why,
        next=f"remove the step; a method has to keep them, so tell the authors of {method.origin}",
    )


def _listed(signature: tuple[TensorType, ...]) -> str:
    return ", ".join(map(str, signature)) or "none"
