"""A folder with one sub-folder of images per class, and how an image becomes the input tensor."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.filekind import wrong_kind
from edgepack.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from edgepack.spec import Preprocess

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def preprocess_image(path: Path, spec: "Preprocess") -> "np.ndarray":
    """Load one image file as float32 ``[C, H, W]`` or ``[H, W, C]``, by ``spec.layout``.

    Resize the shorter side (bilinear), crop the centre, multiply by ``scale``, then ``(v - mean) / std``.

    Raises:
        InputError: if the file is not an image, is smaller than the crop, or ``mean`` and ``std`` do not
            fit its channels.
    """
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    where = str(path)
    try:
        with warnings.catch_warnings(), Image.open(path) as opened:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = opened.convert("L" if spec.color == "gray" else "RGB")
    except UnidentifiedImageError as error:
        why, step = wrong_kind(path, "image") or (None, None)
        message = f"the file is not an image{f': {why}' if why else ''}"
        raise InputError(message, where=where, next=step) from error
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise InputError("the image cannot be read", where=where, why=str(error)) from error
    if spec.resize is not None:
        factor = spec.resize / min(image.size)
        size = (round(image.width * factor), round(image.height * factor))
        image = image.resize(size, Image.Resampling.BILINEAR)
    if spec.crop is not None:
        height, width = spec.crop
        if image.height < height or image.width < width:
            raise InputError(
                f"the image is {image.height}x{image.width} before the crop to {height}x{width}",
                where=where,
                next="set preprocess.resize to at least the crop's longer side",
            )
        top, left = (image.height - height) // 2, (image.width - width) // 2
        image = image.crop((left, top, left + width, top + height))
    pixels = np.asarray(image, dtype=np.float32)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels  # noqa: PLR2004 - gray has no channel axis
    if spec.color == "bgr":
        pixels = pixels[..., ::-1]
    channels = pixels.shape[-1]
    for name, values in (("mean", spec.mean), ("std", spec.std)):
        if len(values) not in (1, channels):
            raise InputError(
                f"preprocess.{name} has {len(values)} values for {channels} channels", where=where
            )
    mean, std = np.asarray(spec.mean, dtype=np.float32), np.asarray(spec.std, dtype=np.float32)
    pixels = (pixels * np.float32(spec.scale) - mean) / std
    return np.ascontiguousarray(
        pixels.transpose(2, 0, 1) if spec.layout == "nchw" else pixels, dtype=np.float32
    )


def image_files(folder: Path) -> dict[str, list[Path]]:
    """The image files of each class, sorted; a class is a sub-folder, and files of other types do not count."""
    if not folder.is_dir():
        return {}
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return {
        entry.name: sorted(file for file in entry.iterdir() if file.suffix.lower() in SUFFIXES)
        for entry in classes
    }


def load_images(folder: Path, spec: "Preprocess") -> "tuple[np.ndarray, np.ndarray, tuple[str, ...]]":
    """Load all images under ``folder``: samples ``[N, ...]``, labels ``[N]``, class names (sub-folders, sorted).

    Raises:
        InputError: if there are fewer than two classes, an empty class, or images of different shapes.
    """
    import numpy as np

    if not folder.is_dir():
        raise InputError("there is no such image folder", where=str(folder))
    classes = image_files(folder)
    if len(classes) < 2:  # noqa: PLR2004 - one class is nothing to classify
        raise InputError(
            f"the folder has {len(classes)} sub-folders",
            where=str(folder),
            next="create one sub-folder of images per class",
        )
    samples: list[np.ndarray] = []
    labels: list[int] = []
    for label, (name, files) in enumerate(classes.items()):
        if not files:
            raise InputError(
                "the class has no images", where=str(folder / name), why=f"supported: {', '.join(SUFFIXES)}"
            )
        for file in files:
            sample = preprocess_image(file, spec)
            if samples and sample.shape != samples[0].shape:
                raise InputError(
                    f"the image has shape {list(sample.shape)}, others {list(samples[0].shape)}",
                    where=str(file),
                    next="set preprocess.resize and preprocess.crop, so that all images have the same shape",
                )
            samples.append(sample)
            labels.append(label)
    return np.stack(samples), np.asarray(labels, dtype=np.int64), tuple(classes)
