"""The samples a recipe names, and how files become the input tensor."""

from typing import Literal

from pydantic import Field

from edgepack.spec.base import Filled, Reference, Seed, Spec

_IMAGE_AXES = 4  # batch, channels, height and width


class Preprocess(Spec):
    """How an image file becomes the input tensor, in this order: resize, crop, scale, normalise, layout."""

    resize: int | None = Field(default=None, ge=1, description="Shorter side, pixels.")
    crop: tuple[int, int] | None = Field(default=None, description="Centre crop, height and width, pixels.")
    color: Literal["rgb", "bgr", "gray"] = Field(default="rgb", description="Channels, in this order.")
    scale: float = Field(default=1 / 255, description="Pixel values are multiplied by this.")
    mean: tuple[float, ...] = Field(
        default=(0.0,), description="Subtracted after scaling; one value, or one per channel."
    )
    std: tuple[float, ...] = Field(
        default=(1.0,), description="Divided by last; one value, or one per channel."
    )
    layout: Literal["nchw", "nhwc"] = Field(default="nchw", description="Order of the tensor's axes.")


class Images(Spec):
    """A folder with one sub-folder of images per class."""

    folder: Filled = Field(description="The folder, relative to the recipe.")
    preprocess: Preprocess = Field(default=Preprocess(), description="How an image file becomes a tensor.")


class Idx(Spec):
    """Images and labels in IDX files, the format of MNIST, plain or gzip: MNIST, Fashion-MNIST and the like."""

    folder: Filled = Field(
        description="The folder of the files, relative to the recipe; Debian's dataset-fashion-mnist has /usr/share/datasets/fashion-mnist."
    )
    train_images: Filled = Field(
        default="train-images-idx3-ubyte.gz", description="Training images; with or without .gz."
    )
    train_labels: Filled = Field(default="train-labels-idx1-ubyte.gz", description="Their classes.")
    test_images: Filled = Field(default="t10k-images-idx3-ubyte.gz", description="Test images.")
    test_labels: Filled = Field(default="t10k-labels-idx1-ubyte.gz", description="Their classes.")
    classes: tuple[Filled, ...] = Field(default=(), description="The name of each class, in order.")
    scale: float = Field(default=1 / 255, description="Pixel values are multiplied by this.")
    mean: tuple[float, ...] = Field(
        default=(0.0,), description="Subtracted after scaling; one value, or one per channel."
    )
    std: tuple[float, ...] = Field(
        default=(1.0,), description="Divided by last; one value, or one per channel."
    )
    layout: Literal["nchw", "nhwc"] = Field(default="nchw", description="Order of the tensor's axes.")


class Text(Spec):
    """A CSV (with a header) or JSONL file of labelled text, tokenised by bytes, words or a user's callable."""

    file: Filled = Field(description="The file, relative to the recipe.")
    text: Filled = Field(default="text", description="The column or key that holds the text.")
    label: Filled = Field(default="label", description="The column or key that holds the class.")
    tokenizer: Literal["bytes", "words"] | Reference = Field(
        default="words", description="bytes, words, or module:callable from a text to a list of ids."
    )
    vocabulary: int = Field(default=4096, ge=2, description="Distinct tokens kept.")
    length: int = Field(
        default=128, ge=1, description="Tokens per sample; shorter samples are padded with 0."
    )


class Data(Spec):
    """Samples with targets, split into train, calibration (part of train) and test. Exactly one source."""

    source: Reference | None = Field(
        default=None, description="module:callable returning edgepack.data.Splits."
    )
    npz: Filled | None = Field(
        default=None,
        description="An .npz file with x_train, y_train, x_test and y_test, or x and y; x.NAME for each of several inputs, "
        "y.NAME for each of several targets; relative to the recipe.",
    )
    images: Images | None = Field(default=None, description="A folder of images.")
    idx: Idx | None = Field(default=None, description="Images and labels in IDX files.")
    csv: Text | None = Field(default=None, description="A CSV file of text.")
    jsonl: Text | None = Field(default=None, description="A JSONL file of text.")
    test_fraction: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Fraction of the samples in the test split, where the source has no split of its own.",
    )
    seed: Seed = Field(default=0, description="Seed of that split.")

    def preprocess(self, shape: tuple[int, ...]) -> Preprocess | None:
        """How an image becomes an input of ``shape``, batch first; None if the samples are no images.

        IDX files hold pixels of the input's size: 1 channel is gray, 3 are red, green and blue.
        """
        if self.images is not None:
            return self.images.preprocess
        if self.idx is None or len(shape) != _IMAGE_AXES:
            return None
        channels, *size = shape[1:] if self.idx.layout == "nchw" else (shape[3], *shape[1:3])
        if channels not in {1, 3}:
            return None
        return Preprocess(
            crop=(size[0], size[1]),
            color="gray" if channels == 1 else "rgb",
            scale=self.idx.scale,
            mean=self.idx.mean,
            std=self.idx.std,
            layout=self.idx.layout,
        )
