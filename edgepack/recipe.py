"""A recipe: what to build. Frozen after parsing; torch and tvm are not needed to read one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edgepack.compress import METHODS, CompressStep
from edgepack.compress.training import Train
from edgepack.explain import Finding, Location
from edgepack.spec import Filled, Name, Reference, Spec, Version
from edgepack.yaml import Checked, examine

SCHEMA_VERSION = 1

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
    shape: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        description="Batch included, e.g. [1, 3, 224, 224]."
    )
    dtype: DType = Field(default="float32", description="Element type.")


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


class Preprocess(Spec):
    """How an image file becomes the input tensor, in this order: resize, crop, scale, normalise, layout."""

    resize: int | None = Field(default=None, ge=1, description="Shorter side, pixels.")
    crop: tuple[int, int] | None = Field(default=None, description="Centre crop, height and width, pixels.")
    color: Literal["rgb", "bgr", "gray"] = Field(default="rgb", description="Channels, in this order.")
    scale: float = Field(default=1 / 255, description="Pixel values are multiplied by this.")
    mean: tuple[float, ...] = Field(
        default=(0.0,), description="Subtracted after scaling; one value, or one a channel."
    )
    std: tuple[float, ...] = Field(
        default=(1.0,), description="Divided by last; one value, or one a channel."
    )
    layout: Literal["nchw", "nhwc"] = Field(default="nchw", description="Order of the tensor's axes.")


class Images(Spec):
    """A folder with one sub-folder of images a class."""

    folder: Filled = Field(description="The folder, relative to the recipe.")
    preprocess: Preprocess = Field(default=Preprocess(), description="From file to tensor.")


class Text(Spec):
    """A CSV (with a header) or JSONL file of labelled text, tokenised by bytes, words or a user's callable."""

    file: Filled = Field(description="The file, relative to the recipe.")
    text: Filled = Field(default="text", description="The column or key that holds the text.")
    label: Filled = Field(default="label", description="The column or key that holds the class.")
    tokenizer: Literal["bytes", "words"] | Reference = Field(
        default="words", description="bytes, words, or module:callable from a text to a list of ids."
    )
    vocabulary: int = Field(default=4096, ge=2, description="Distinct tokens kept.")
    length: int = Field(default=128, ge=1, description="Tokens a sample; shorter ones are padded with 0.")


class Data(Spec):
    """Labelled samples, split into train, calibration (part of train) and test. Exactly one source."""

    source: Reference | None = Field(
        default=None, description="module:callable returning edgepack.data.Splits."
    )
    npz: Filled | None = Field(
        default=None,
        description="An .npz file with x_train, y_train, x_test and y_test, or x and y; relative to the recipe.",
    )
    images: Images | None = Field(default=None, description="A folder of images.")
    csv: Text | None = Field(default=None, description="A CSV file of text.")
    jsonl: Text | None = Field(default=None, description="A JSONL file of text.")
    test_fraction: float = Field(
        default=0.2, gt=0, lt=1, description="Where the source has no split of its own."
    )
    seed: int = Field(default=0, description="Seed of that split.")


class Gates(Spec):
    """What a release must meet; a failed gate exits with 3. Latency gates skip emulated devices."""

    accuracy_drop: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Accuracy on the board may be at most this below torch fp32 (0..1).",
    )
    parity: float | None = Field(
        default=None,
        gt=0,
        description="Largest relative difference of the board's outputs from onnxruntime's.",
    )
    p90_ms: float | None = Field(default=None, gt=0, description="Largest 90th percentile of latency, ms.")
    bundle_kib: float | None = Field(default=None, gt=0, description="Largest bundle, KiB.")
    peak_rss_mib: float | None = Field(
        default=None, gt=0, description="Largest resident set on the board, MiB."
    )


class Tune(Spec):
    """Budget of the on-board tuning, per target and model; it stops at whichever comes first."""

    trials: int = Field(
        default=0,
        ge=0,
        description="Measured candidates in all; 0 is no limit beside minutes, and no tuning without.",
    )
    minutes: float | None = Field(
        default=None, gt=0, description="Stop after this long, with trials left or not."
    )
    seed: int = Field(default=0, description="Seed of the search.")


class Bench(Spec):
    """How latency is measured on the board."""

    runs: int = Field(default=100, ge=2, description="Measured inferences.")
    warmup: int = Field(default=10, ge=0, description="Inferences before them that do not count.")
    threads: int = Field(default=1, ge=1, description="Threads an inference may use.")
    accuracy_samples: int | None = Field(
        default=None, ge=1, description="Test samples run on the board; all if unset."
    )
    baseline: bool = Field(default=True, description="Measure the uncompressed model on the board too.")


class TargetEntry(Spec):
    """One row of the run: a target, and the device that stands for it (none: stop at the bundle)."""

    target: Filled = Field(description="A target's name: see edgepack targets.")
    device: Filled | None = Field(default=None, description="A name of devices.yaml, or virtual:KIND.")
    tune: Tune | None = Field(default=None, description="Instead of the recipe's tune block.")


class Recipe(Spec):
    """What to build, for which targets, and what it must meet."""

    edgepack: Literal[1] = Field(description="Version of the recipe schema.")
    name: Name = Field(description="Names the bundle, and its folder on the board.")
    version: Version = Field(
        default="0.1.0", description="The release's version; part of the bundle's file name."
    )
    model: Model = Field(description="Where the model comes from.")
    data: Data | None = Field(default=None, description="Needed for training, calibration and accuracy.")
    compress: tuple[CompressStep, ...] = Field(
        default=(),
        description="Compression steps, in order: first those on the torch module, then those on ONNX.",
    )
    tune: Tune = Field(default=Tune(), description="Budget of the tuning for each target.")
    bench: Bench = Field(default=Bench(), description="How the release is measured.")
    gates: Gates = Field(default=Gates(), description="What the release must meet.")
    targets: tuple[TargetEntry, ...] = Field(
        min_length=1, description="What to build for, and on which devices."
    )


def load_recipe(path: Path) -> Recipe:
    """Read a recipe. Whether the files and targets it names exist is the business of ``edgepack.check``.

    Raises:
        ConfigError: with every mistake in the file.
    """
    return examine_recipe(path).result()


def examine_recipe(path: Path) -> Checked[Recipe]:
    """Read a recipe and collect every mistake that the file alone shows."""
    nothing = {"edgepack": 1, "name": "unnamed", "model": {}, "targets": [{"target": "unnamed"}]}
    checked = examine(path, Recipe, stand_ins=nothing)
    if checked.model is not None:
        checked.add(mistakes(checked.model))
    return checked


def mistakes(recipe: Recipe) -> Iterator[Finding]:
    """What contradicts itself in a recipe whose every key is right."""
    yield from _model(recipe.model)
    if recipe.data is not None:
        yield from _data(recipe.data)
    else:
        yield from _needs_data(recipe)
    yield from _sample_mistakes(recipe)
    yield from _steps(recipe)
    yield from _rows(recipe)


def _model(model: Model) -> Iterator[Finding]:
    here = ("model",)
    if (model.source is None) == (model.onnx is None):
        both = model.source is not None
        sources = ((*here, "source"), (*here, "onnx"))
        yield Finding(
            here, f"expected source or onnx{', not both' if both else ''}", on_key=True, depends=sources
        )
        return
    if model.onnx is not None:
        for key in ("weights", "train"):
            if getattr(model, key) is not None:
                yield Finding(
                    (*here, key), f"`{key}` needs a torch source; an .onnx file has its weights", on_key=True
                )
    elif not model.inputs:
        message = "missing key `inputs` in `model`: a torch source does not tell its shapes"
        yield Finding(here, message, on_key=True, depends=((*here, "inputs"),))
    if model.weights is not None and model.train is not None:
        yield Finding((*here, "train"), "expected weights or train, not both", on_key=True)
    seen: set[str] = set()
    for index, entry in enumerate(model.inputs):
        if entry.name in seen:
            yield Finding((*here, "inputs", index, "name"), f"a second input named `{entry.name}`")
        seen.add(entry.name)


def _data(data: Data) -> Iterator[Finding]:
    kinds = ("source", "npz", "images", "csv", "jsonl")
    given = [kind for kind in kinds if getattr(data, kind) is not None]
    if len(given) != 1:
        got = f", got {' and '.join(given)}" if given else ""
        yield Finding(
            ("data",),
            f"expected exactly one of {', '.join(kinds)}{got}",
            on_key=True,
            depends=tuple(("data", k) for k in kinds),
        )
    if data.images is None:
        return
    preprocess = data.images.preprocess
    channels = 1 if preprocess.color == "gray" else 3
    for key in ("mean", "std"):
        count = len(getattr(preprocess, key))
        if count not in (1, channels):
            message = f"{count} values for {channels} channel{'s' * (channels > 1)} ({preprocess.color})"
            yield Finding(("data", "images", "preprocess", key), message)
    if 0.0 in preprocess.std:
        yield Finding(("data", "images", "preprocess", "std"), "a standard deviation of 0 divides by 0")
    if preprocess.crop and min(preprocess.crop) < 1:
        yield Finding(("data", "images", "preprocess", "crop"), "height and width are at least 1 pixel")


def _sample_mistakes(recipe: Recipe) -> Iterator[Finding]:
    """What the data block says of a sample has to be what the model's one input takes."""
    if recipe.data is None:
        return
    if len({entry.name for entry in recipe.model.inputs}) > 1:
        message = "data feeds models of one input only; without `data`, parity is measured on random inputs"
        yield Finding(("model", "inputs", 1), message)
    if len(recipe.model.inputs) != 1:
        return
    gives: tuple[list[int], str] | None = None
    for kind in ("csv", "jsonl"):
        text: Text | None = getattr(recipe.data, kind)
        if text is not None:
            gives = [text.length], "int64"
    images = recipe.data.images
    if images is not None and images.preprocess.crop is not None:
        channels = 1 if images.preprocess.color == "gray" else 3
        crop = list(images.preprocess.crop)
        gives = [channels, *crop] if images.preprocess.layout == "nchw" else [*crop, channels], "float32"
    takes = recipe.model.inputs[0]
    if gives is not None and (list(takes.shape[1:]), takes.dtype) != gives:
        shape, dtype = gives
        message = f"the data gives {dtype} samples of {shape}, and the input takes {takes.dtype} of {list(takes.shape[1:])}"
        here: Location = ("model", "inputs", 0)
        yield Finding((*here, "shape"), message, depends=(here, ("data",)))


def _needs_data(recipe: Recipe) -> Iterator[Finding]:
    missing = (("data",),)
    if recipe.model.train is not None:
        yield Finding(("model", "train"), "training needs `data`", on_key=True, depends=missing)
    for index, step in enumerate(recipe.compress):
        here = ("compress", index)
        if getattr(step, "fine_tune", None) is not None:
            yield Finding((*here, "fine_tune"), "fine-tuning needs `data`", on_key=True, depends=missing)
        if step.method == "quantize-static":
            yield Finding((*here, "method"), "calibration needs `data`", depends=missing)
    if recipe.gates.accuracy_drop is not None:
        yield Finding(
            ("gates", "accuracy_drop"), "measuring accuracy needs `data`", on_key=True, depends=missing
        )
    if recipe.bench.accuracy_samples is not None:
        yield Finding(
            ("bench", "accuracy_samples"), "measuring accuracy needs `data`", on_key=True, depends=missing
        )


def _steps(recipe: Recipe) -> Iterator[Finding]:
    on_onnx = None
    for index, step in enumerate(recipe.compress):
        here = ("compress", index, "method")
        if METHODS[step.method].STAGE == "onnx":
            on_onnx = on_onnx or step.method
            continue
        if recipe.model.onnx is not None and recipe.model.source is None:
            message = (
                f"{step.method} changes a torch module, and the model is an .onnx file; it needs model.source"
            )
            yield Finding(here, message, depends=(("model", "source"), ("model", "onnx")))
        if on_onnx is not None:
            message = f"{step.method} changes the torch module, so it comes before {on_onnx}, which changes the ONNX graph"
            yield Finding(here, message)


def _rows(recipe: Recipe) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, entry in enumerate(recipe.targets):
        if entry.target in seen:
            # A report has one row for each target and variant: two boards would overwrite each other's figures.
            hint = "a release is built once for a target; `edgepack deploy` brings it to more boards"
            yield Finding(("targets", index), f"a second row for {entry.target}: {hint}")
        seen.add(entry.target)
    if not any(entry.device for entry in recipe.targets):
        for key in ("accuracy_drop", "parity", "p90_ms", "peak_rss_mib"):
            if getattr(recipe.gates, key) is not None:
                message = "is measured on a board, and no target of the recipe has a `device`"
                yield Finding(("gates", key), f"`{key}` {message}", on_key=True, depends=(("targets",),))
