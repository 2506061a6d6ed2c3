"""IDX files, the format of MNIST and its successors: a header with the type and the sizes, then the values, big-endian.

The files of Debian's package ``dataset-fashion-mnist`` are of this format, compressed with gzip.
"""

import gzip
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from edgepack.data.splits import Splits
from edgepack.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from edgepack.spec import Idx

_GZIP = b"\x1f\x8b"
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_RATIO = 1032  # gzip's best: a file cannot hold more bytes than this for each of its own
_PACKAGES = {"/usr/share/datasets/fashion-mnist": "dataset-fashion-mnist"}  # Debian's
_MOST_AXES = 4


def load_idx(spec: "Idx", base: Path) -> Splits:
    """Images as float32 ``[N, C, H, W]`` or ``[N, H, W, C]``, by ``spec.layout``, and labels, int64 ``[N]``.

    Raises:
        InputError: a file is missing, is not an IDX file or is truncated, or images and labels do not fit together.
    """
    import numpy as np

    arrays: dict[str, Any] = {}
    for split in ("train", "test"):
        images, labels = (
            path_of(spec, base, getattr(spec, f"{split}_{part}")) for part in ("images", "labels")
        )
        pixels, classes = read_idx(images), read_idx(labels)
        if pixels.ndim not in {3, _MOST_AXES}:
            raise InputError(
                f"the file holds an array of {pixels.ndim} axes, not images",
                where=str(images),
                next="images are [N, height, width] or [N, height, width, channels]",
            )
        if classes.ndim != 1 or classes.dtype.kind not in "iu":
            raise InputError("the file does not hold one whole number per image", where=str(labels))
        pixels = pixels[..., None] if pixels.ndim < _MOST_AXES else pixels
        arrays[f"x_{split}"] = _normalised(pixels, spec, str(images))
        arrays[f"y_{split}"] = np.asarray(classes, np.int64)
    return Splits(**arrays, classes=spec.classes)


def path_of(spec: "Idx", base: Path, name: str) -> Path:
    """The file of this name: with or without ``.gz``, whichever is there."""
    path = base / spec.folder / name
    other = path.with_suffix("") if path.suffix == ".gz" else path.with_name(f"{path.name}.gz")
    return other if other.is_file() and not path.is_file() else path


def read_idx(path: Path) -> "np.ndarray":
    """The array of an IDX file, plain or compressed with gzip, in the machine's byte order.

    Its size is compared with that of the file before memory is taken for it.

    Raises:
        InputError: there is no such file, it is not an IDX file, or it holds fewer or more bytes than its header says.
    """
    import numpy as np

    where, size = str(path), path.stat().st_size if path.is_file() else 0
    with _opened(path) as (stream, zipped):
        dtype, shape = _header(stream, where)
        wanted = prod(shape) * dtype.itemsize
        if wanted > size * (_RATIO if zipped else 1):
            raise InputError(
                f"the header says {wanted:,} bytes, more than a file of {size:,} can hold", where=where
            )
        data = stream.read(wanted)
        more = stream.read(1)
    if len(data) != wanted or more:
        held = "more" if more else f"{len(data):,}"
        raise InputError(f"the header says {wanted:,} bytes, the file holds {held}", where=where)
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def check_idx(path: Path) -> None:
    """Check that a file begins as an IDX file.

    Raises:
        InputError: it is missing, or does not.
    """
    with _opened(path) as (stream, _):
        _header(stream, str(path))


@contextmanager
def _opened(path: Path) -> "Iterator[tuple[IO[bytes], bool]]":
    """The bytes of a file, and whether they were compressed."""
    if not path.is_file():
        package = _PACKAGES.get(str(path.parent))
        step = None if package is None else f"install Debian's package: apt install {package}"
        raise InputError("there is no such data file", where=str(path), next=step)
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == _GZIP
        with cast("IO[bytes]", gzip.open(path, "rb")) if zipped else path.open("rb") as stream:
            yield stream, zipped
    except (OSError, EOFError, zlib.error) as error:
        raise InputError("the file cannot be read", where=str(path), why=str(error)) from error


def _header(stream: "IO[bytes]", where: str) -> "tuple[np.dtype[np.generic], tuple[int, ...]]":
    """The type and the shape that the header of an IDX file says.

    Raises:
        InputError: it is not one.
    """
    import numpy as np

    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or not 1 <= magic[3] <= _MOST_AXES:  # noqa: PLR2004 - bytes
        raise InputError(
            "the file is not an IDX file",
            where=where,
            why=f"it begins with {magic.hex(' ') or 'nothing'}; two zero bytes, a type and 1 to {_MOST_AXES} axes are expected",
        )
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise InputError("the file ends inside its header", where=where)
    return np.dtype(_TYPES[magic[2]]), struct.unpack(f">{magic[3]}I", sizes)


def _normalised(pixels: "np.ndarray", spec: "Idx", where: str) -> "np.ndarray":
    import numpy as np

    for name, values in (("mean", spec.mean), ("std", spec.std)):
        if len(values) not in (1, pixels.shape[-1]):
            raise InputError(
                f"idx.{name} has {len(values)} values for {pixels.shape[-1]} channels", where=where
            )
    mean, std = np.asarray(spec.mean, dtype=np.float32), np.asarray(spec.std, dtype=np.float32)
    scaled = (pixels.astype(np.float32) * np.float32(spec.scale) - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2) if spec.layout == "nchw" else scaled)
