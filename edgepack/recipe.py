"""A recipe: what to build. Frozen after parsing; torch and tvm are not needed to read one."""

from typing import Annotated, Literal

from pydantic import Field

from edgepack.compress import CompressStep
from edgepack.spec import Spec

SCHEMA_VERSION = 1

Reference = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", description="module:callable")]
DType = Literal["float32", "float16", "int8", "uint8", "int32", "int64", "bool"]


class Input(Spec):
    """One input of the model, batch included."""

    name: str
    shape: tuple[Annotated[int, Field(ge=1)], ...]
    dtype: DType = "float32"


class Train(Spec):
    """A training run: Adam on cross-entropy, cosine decay, fixed seed."""

    epochs: int = Field(ge=1)
    lr: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=64, ge=1)
    weight_decay: float = Field(default=0.0, ge=0)
    seed: int = 0


class Model(Spec):
    """Where the model comes from: a torch ``source``, or an ``onnx`` file. Exactly one."""

    source: Reference | None = Field(default=None, description="module:callable returning a torch.nn.Module.")
    onnx: str | None = Field(default=None, description="An .onnx file, relative to the recipe.")
    weights: str | None = Field(default=None, description=".safetensors, or a weights-only .pt; with source only.")
    train: Train | None = Field(default=None, description="Train the source first; instead of weights.")
    inputs: tuple[Input, ...] = Field(
        default=(), description="Required with source; with onnx they fix dynamic shapes."
    )


class Preprocess(Spec):
    """How an image file becomes the input tensor, in this order: resize, crop, scale, normalise, layout."""

    resize: int | None = Field(default=None, ge=1, description="Shorter side, pixels.")
    crop: tuple[int, int] | None = Field(default=None, description="Centre crop, height and width, pixels.")
    color: Literal["rgb", "bgr", "gray"] = "rgb"
    scale: float = Field(default=1 / 255, description="Pixel values are multiplied by this.")
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Literal["nchw", "nhwc"] = "nchw"


class Images(Spec):
    """A folder with one sub-folder of images a class."""

    folder: str
    preprocess: Preprocess = Preprocess()


class Text(Spec):
    """A CSV (with a header) or JSONL file of labelled text, tokenised by bytes, words or a user's callable."""

    file: str
    text: str = Field(default="text", description="The column or key that holds the text.")
    label: str = Field(default="label", description="The column or key that holds the class.")
    tokenizer: Literal["bytes", "words"] | Reference = "words"
    vocabulary: int = Field(default=4096, ge=2)
    length: int = Field(default=128, ge=1, description="Tokens a sample; shorter ones are padded with 0.")


class Data(Spec):
    """Labelled samples, split into train, calibration (part of train) and test. Exactly one source."""

    source: Reference | None = Field(default=None, description="module:callable returning edgepack.data.Splits.")
    npz: str | None = Field(default=None, description="x_train, y_train, x_test, y_test.")
    images: Images | None = None
    csv: Text | None = None
    jsonl: Text | None = None
    test_fraction: float = Field(default=0.2, gt=0, lt=1, description="Where the source has no split of its own.")
    seed: int = 0


class Gates(Spec):
    """What a release must meet; a failed gate exits with 3. Latency gates skip emulated devices."""

    accuracy_drop: float | None = Field(
        default=None, ge=0, le=1, description="Accuracy on the board may be at most this below torch fp32 (0..1)."
    )
    parity: float | None = Field(
        default=None, gt=0, description="Largest relative difference of the board's outputs from onnxruntime's."
    )
    p90_ms: float | None = Field(default=None, gt=0)
    bundle_kib: float | None = Field(default=None, gt=0)
    peak_rss_mib: float | None = Field(default=None, gt=0)


class Tune(Spec):
    """Budget of the on-board tuning, per target and model; it stops at whichever comes first."""

    trials: int = Field(default=0, ge=0, description="Measured candidates in all; 0 leaves kernels untuned.")
    minutes: float | None = Field(default=None, gt=0)
    seed: int = 0


class Bench(Spec):
    """How latency is measured on the board."""

    runs: int = Field(default=100, ge=2)
    warmup: int = Field(default=10, ge=0)
    threads: int = Field(default=1, ge=1)
    accuracy_samples: int | None = Field(default=None, ge=1, description="Test samples run on the board; all if unset.")
    baseline: bool = Field(default=True, description="Measure the uncompressed model on the board too.")


class TargetEntry(Spec):
    """One row of the run: a target, and the device that stands for it (none: stop at the bundle)."""

    target: str
    device: str | None = Field(default=None, description="A name of devices.yaml, or virtual:NAME.")
    tune: Tune | None = Field(default=None, description="Instead of the recipe's tune block.")


class Recipe(Spec):
    """What to build, for which targets, and what it must meet."""

    edgepack: Literal[1] = Field(description="Version of the recipe schema.")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    version: str = Field(default="0.1.0", pattern=r"^[0-9A-Za-z][0-9A-Za-z.+_]*$")
    model: Model
    data: Data | None = Field(default=None, description="Needed for training, calibration and accuracy.")
    compress: tuple[CompressStep, ...] = ()
    tune: Tune = Tune()
    bench: Bench = Bench()
    gates: Gates = Gates()
    targets: tuple[TargetEntry, ...] = Field(min_length=1)
