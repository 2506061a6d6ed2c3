"""The model a recipe starts from: its inputs, its source, how it is trained."""

from typing import Annotated, Literal

from pydantic import Field

from edgepack.spec.base import MAY_BE_EMPTY, Filled, Reference, Spec

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
"""What the agent reads and writes: the element types of .npy files, complex numbers and text apart."""


class Input(Spec):
    """One input of the model, batch included."""

    name: Filled = Field(
        description="The input's name in the ONNX graph; with source, the name it gets there."
    )
    shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], MAY_BE_EMPTY] = Field(
        description="Batch included, e.g. [1, 3, 224, 224]."
    )
    dtype: DType = Field(default="float32", description="Element type.")


class Tensor(Spec):
    """An input or output of a model, batch included."""

    name: str
    shape: tuple[Annotated[int, Field(ge=1)], ...]
    dtype: DType


class Train(Spec):
    """A training run: Adam on cross-entropy, cosine decay to 0, fixed seed."""

    epochs: int = Field(ge=1, description="Passes over the training split.")
    lr: float = Field(
        default=1e-3, gt=0, description="Learning rate at the start; it falls to 0 along a cosine."
    )
    batch_size: int = Field(default=64, ge=1, description="Samples a step.")
    weight_decay: float = Field(default=0.0, ge=0, description="Adam's L2 penalty.")
    seed: int = Field(default=0, description="Seed of initial weights and of the order of samples.")


class Model(Spec):
    """Where the model comes from: a torch ``source``, or an ``onnx`` file. Exactly one."""

    source: Reference | None = Field(default=None, description="module:callable returning a torch.nn.Module.")
    onnx: Filled | None = Field(default=None, description="An .onnx file, relative to the recipe.")
    weights: Filled | None = Field(
        default=None,
        description="A .safetensors or weights-only .pt file for source, relative to the recipe.",
    )
    train: Train | None = Field(default=None, description="Train the source first; instead of weights.")
    inputs: tuple[Input, ...] = Field(
        default=(), description="The model's inputs. Required with source; with onnx they fix dynamic shapes."
    )
