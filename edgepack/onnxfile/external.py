"""Tensors stored in files of their own next to an .onnx file: found, checked and read.

A file is read only if it lies in the model's folder. There is one exception: the cache of a model hub, where every
file of ``models--OWNER--NAME/snapshots/REVISION`` is a link into ``models--OWNER--NAME/blobs``.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.errors import InputError
from edgepack.onnxfile.protos import copy_of

if TYPE_CHECKING:
    import numpy as np
    import onnx

MAX_BYTES = 2**31 - 2**20
"""Largest size of a model with its weights: protobuf's limit for one message, less the graph itself."""

_HUB = ("models--", "datasets--", "spaces--")  # names of folders in a hub's cache start with one of these


def tensors(model: "onnx.ModelProto") -> "Iterator[onnx.TensorProto]":
    """Yield every tensor that may have external data: initializers, attributes, subgraphs, functions."""
    from onnx.external_data_helper import _get_all_tensors

    yield from _get_all_tensors(model)


def read_external_data(model: "onnx.ModelProto", path: Path) -> None:
    """Move the external data of the model at ``path`` into its tensors, in place.

    Raises:
        InputError: a file is missing, too short, not a regular file, or outside the model's folder; or the model is
            larger than ``MAX_BYTES`` with it. Nothing is read before all sizes are known.
    """
    from onnx import TensorProto

    found = [tensor for tensor in tensors(model) if tensor.data_location == TensorProto.EXTERNAL]
    parts = [_Part(tensor, path) for tensor in found]
    total = sum(part.length for part in parts)
    if total > MAX_BYTES:
        raise too_large(total, path)
    for part in parts:
        part.read()


def array_of(tensor: "onnx.TensorProto", path: Path) -> "np.ndarray":
    """Return a tensor of the model at ``path`` as an array; the model is not changed.

    Raises:
        InputError: as :func:`read_external_data`.
    """
    from onnx import TensorProto, numpy_helper

    if tensor.data_location == TensorProto.EXTERNAL:
        tensor = copy_of(tensor)
        _Part(tensor, path).read()
    array: np.ndarray = numpy_helper.to_array(tensor)
    return array


def too_large(size: int, path: Path) -> InputError:
    """Return the error for a model of ``size`` bytes."""
    return InputError(
        f"the model is too large: its weights are {size:,} bytes, and the limit is {MAX_BYTES:,}",
        where=str(path),
        why="kernels and weights are compiled into one library, from one .onnx file of at most 2 GiB",
        next="store the weights in float16 or int8, or split the model into several files",
    )


class _Part:
    """The bytes of one tensor in an external file."""

    def __init__(self, tensor: "onnx.TensorProto", path: Path) -> None:
        self._tensor = tensor
        self._where = f"{path}, tensor {tensor.name}"
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        self._file = self._find(path, location)
        size = self._file.stat().st_size
        self._offset = self._number(entries, "offset", 0)
        needed = self._needed()
        self.length = self._number(entries, "length", needed)
        if self.length != needed:
            raise InputError(
                f"external data {location!r} is stated as {self.length} bytes, but the tensor takes {needed}",
                where=self._where,
                next="export the model again",
            )
        if self._offset + self.length > size:
            raise InputError(
                f"external data {location!r} is too short: {size} bytes, {self._offset + self.length} are needed",
                where=self._where,
                next="copy the file again; the download or copy may be incomplete",
            )

    def read(self) -> None:
        """Read the bytes into the tensor."""
        try:
            with self._file.open("rb") as stream:
                stream.seek(self._offset)
                self._tensor.raw_data = stream.read(self.length)
        except OSError as error:
            raise InputError(
                "the external data cannot be read", where=self._where, why=error.strerror
            ) from error
        self._tensor.ClearField("data_location")
        self._tensor.ClearField("external_data")

    def _needed(self) -> int:
        dims, kind = self._tensor.dims, self._tensor.data_type
        bits = _bits(kind)
        if not bits or any(dim < 0 for dim in dims):
            raise InputError(
                f"a tensor of type {kind} and shape {list(dims)} cannot be stored in a file of its own",
                where=self._where,
                next="export the model again",
            )
        return (math.prod(int(dim) for dim in dims) * bits + 7) // 8

    def _number(self, entries: dict[str, str], key: str, default: int) -> int:
        text = entries.get(key, "").strip()
        if not text:
            return default
        if not (text.isascii() and text.isdigit()):
            raise InputError(
                f"external data has the {key} {text!r}",
                where=self._where,
                why="it must be a number of bytes",
                next="export the model again",
            )
        return int(text)

    def _find(self, path: Path, location: str) -> Path:
        if not location or Path(location).is_absolute():
            raise InputError(
                f"external data {location!r} is not a relative path",
                where=self._where,
                next="save the model again, with its data next to it",
            )
        folder = real_path(path).parent
        file = folder / location
        roots = [folder.resolve(), *_blobs(folder)]
        if not any(file.resolve().is_relative_to(root) for root in roots):
            raise InputError(
                f"external data {location!r} is outside the model's folder",
                where=self._where,
                next="copy it next to the .onnx file",
            )
        if not file.exists():
            raise InputError(
                f"external data {location!r} is missing",
                where=self._where,
                next="copy it next to the .onnx file",
            )
        if not file.is_file() or file.stat().st_nlink > 1:
            raise InputError(
                f"external data {location!r} is not a regular file, or has several links",
                where=self._where,
                why="a hard link or special file may refer to data outside the model's folder",
                next="copy the file instead of linking it",
            )
        return file


def real_path(path: Path) -> Path:
    """Return the path of a model with its external data next to it, if ``path`` may be a link to the model.

    Links are followed, but not those of a hub's cache into its blobs, where files have other names.
    """
    path = path.absolute()
    while path.is_symlink() and not _blobs(path.parent):
        path = path.parent / path.readlink()
    return path


def _blobs(folder: Path) -> list[Path]:
    """Return the folder that the links of a hub's cache lead to, if ``folder`` is in such a cache."""
    revisions = [each for each in (folder, *folder.parents) if each.parent.name == "snapshots"]
    roots = [each.parent.parent for each in revisions]
    return [(root / "blobs").resolve() for root in roots if root.name.startswith(_HUB)]


def _bits(kind: int) -> int:
    """Return bits per element of an element type; 0 if it has no fixed size."""
    import onnx_ir

    sized = {each.value for each in onnx_ir.DataType} - {onnx_ir.DataType.UNDEFINED, onnx_ir.DataType.STRING}
    return int(onnx_ir.DataType(kind).bitwidth) if kind in sized else 0
