"""The model a recipe starts from: its inputs, its source, how it is trained."""

from typing import Annotated, Literal

from pydantic import Field

from edgepack.spec.base import MAY_BE_EMPTY, Filled, Finite, Reference, Seed, Sha256, Spec

DType = Literal[
    "float32",
    "float16",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
]
"""Element types that the agent reads and writes: those of .npy files, except complex numbers and text."""


class Input(Spec):
    """One input of the model, including the batch axis."""

    name: Filled = Field(
        description="The input's name in the ONNX graph; with `source`, the name it is exported under."
    )
    shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], MAY_BE_EMPTY] = Field(
        description="Including the batch axis, e.g. [1, 3, 224, 224]."
    )
    dtype: DType = Field(default="float32", description="Element type.")


class RecipeInput(Input):
    """One input of the recipe's model."""

    value: bool | int | Finite | tuple[bool | int | Finite, ...] | None = Field(
        default=None,
        description="Makes the input of an .onnx file a constant: a number for all elements, or a list of all elements, row by row.",
    )


class Tensor(Spec):
    """An input or output of a model, including the batch axis."""

    name: str
    shape: tuple[Annotated[int, Field(ge=1)], ...]
    dtype: DType


class Train(Spec):
    """A training run: Adam on cross-entropy, cosine decay to 0, fixed seed."""

    epochs: int = Field(ge=1, description="Passes over the training split.")
    lr: float = Field(default=1e-3, gt=0, description="Initial learning rate; cosine decay to 0.")
    batch_size: int = Field(default=64, ge=1, description="Batch size: samples per step.")
    weight_decay: float = Field(default=0.0, ge=0, description="Adam's L2 penalty.")
    seed: Seed = Field(default=0, description="Seed of the initial weights and the order of samples.")


class Model(Spec):
    """Where the model comes from: a torch ``source``, or an ``onnx`` file. Exactly one."""

    source: Reference | None = Field(default=None, description="module:callable returning a torch.nn.Module.")
    onnx: Filled | None = Field(default=None, description="An .onnx file, relative to the recipe.")
    weights: Filled | None = Field(
        default=None,
        description="A .safetensors or weights-only .pt file for source, relative to the recipe.",
    )
    # Excluded from cache keys, which have the digest of the file itself.
    sha256: Sha256 | dict[Filled, Sha256] | None = Field(
        default=None,
        exclude=True,
        description="The sum that the onnx or weights file must have; of each file by its name, if an .onnx file keeps data in others.",
    )
    train: Train | None = Field(
        default=None, description="Train the source first, instead of loading weights."
    )
    inputs: tuple[RecipeInput, ...] = Field(
        default=(), description="The model's inputs. Required with source; with onnx they fix dynamic shapes."
    )

    @property
    def fed(self) -> tuple[Input, ...]:
        """The inputs that are given to the compiled model: those without a value of their own."""
        return tuple(
            Input(name=each.name, shape=each.shape, dtype=each.dtype)
            for each in self.inputs
            if each.value is None
        )
