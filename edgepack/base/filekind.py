"""What a file is by its content, where it is not what it should be: the reason and the next step in errors."""

import re
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import BinaryIO, Literal

Wanted = Literal["model", "weights", "arrays", "image", "recipe", "bundle"]

_HEAD = 1024  # bytes that are read
_SHOWN = 40  # characters of a text file that are shown


@dataclass(frozen=True)
class FileKind:
    """A kind of file.

    Attributes:
        what: the kind with its article.
        holds: what it could be used for.
        get: how to get the file that was meant; ``{}`` is the path, quoted for a shell.
    """

    what: str
    holds: Wanted | None = None
    get: str | None = None


_ONNX = FileKind("an ONNX model", "model")
_BUNDLE = FileKind("an edgepack bundle", "bundle")
_RECIPE = FileKind("a recipe or another YAML file of edgepack", "recipe")
_SAFETENSORS = FileKind("a safetensors file, which has weights and no graph", "weights")
_SAVED = FileKind("a file of torch.save, which has weights or pickled objects and no graph", "weights")
_TORCHSCRIPT = FileKind(
    "a TorchScript program",
    get="export the module that it was made from with torch.onnx.export; its weights alone: "
    """python -c "import sys, torch; torch.save(torch.jit.load(sys.argv[1]).state_dict(), 'weights.pt')" {}""",
)
_EXPORTED = FileKind(
    "a program of torch.export.save",
    get="it contains pickled code. If you trust it: "
    """python -c "import sys, torch; p = torch.export.load(sys.argv[1]); """
    """torch.onnx.export(p, dynamo=True).save('model.onnx')" {}""",
)
_PICKLE = FileKind(
    "a Python pickle",
    get="loading it would run code that it names. If you trust it: "
    """python -c "import sys, pickle, torch; torch.save(pickle.load(open(sys.argv[1], 'rb')), 'weights.pt')" {}""",
)
_KERAS = FileKind(
    "a Keras model",
    get='python -m tf2onnx.convert needs a SavedModel: in Python, keras.saving.load_model("…").export("saved_model"), '
    "then python -m tf2onnx.convert --saved-model saved_model --output model.onnx",
)
_SAVED_MODEL = FileKind(
    "a TensorFlow SavedModel", get="python -m tf2onnx.convert --saved-model {} --output model.onnx"
)
_ARRAYS = FileKind("an .npz file", "arrays")
_ARCHIVE = "unpack it, and use the file inside"

# The first bytes of a file.
_MAGIC: tuple[tuple[int, bytes, FileKind], ...] = (
    (
        0,
        b"version https://git-lfs.github.com/spec/",
        FileKind("a Git LFS pointer, not the file itself", get="git lfs pull, in its repository"),
    ),
    (0, b"/annex/objects/", FileKind("a git-annex pointer, not the file itself", get="git annex get {}")),
    (4, b"TFL3", FileKind("a TensorFlow Lite model", get="python -m tf2onnx.convert --tflite {} --output model.onnx")),
    (4, b"ORTM", FileKind("a model in onnxruntime's own format", get="use the .onnx file that it was made from")),
    (0, b"\x89HDF\r\n\x1a\n", _KERAS),
    (0, b"\x93NUMPY", FileKind("a single array (.npy)", get="numpy.savez writes several arrays with their names")),
    (0, b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", _SAVED),
    *((0, b"\x80" + bytes([version]), _PICKLE) for version in (2, 3, 4, 5)),
    (0, b"\x1f\x8b", FileKind("compressed with gzip", get="gunzip -k {}")),
    (0, b"\xfd7zXZ\0", FileKind("compressed with xz", get="unxz -k {}")),
    (0, b"BZh", FileKind("compressed with bzip2", get="bunzip2 -k {}")),
    (0, b"7z\xbc\xaf\x27\x1c", FileKind("a 7z archive", get=_ARCHIVE)),
    (0, b"Rar!", FileKind("a RAR archive", get=_ARCHIVE)),
    (257, b"ustar", FileKind("a tar archive", get="tar -xf {}")),
    (0, b"\x28\xb5\x2f\xfd", _BUNDLE),
    (0, b"GGUF", FileKind("a GGUF model of llama.cpp", get="edgepack takes ONNX models and PyTorch sources")),
    (0, b"\x7fELF", FileKind("a program or library (ELF)")),
    (0, b"\x89PNG\r\n\x1a\n", FileKind("a PNG image", "image")),
    (0, b"\xff\xd8\xff", FileKind("a JPEG image", "image")),
    (0, b"%PDF", FileKind("a PDF document")),
)  # fmt: skip
_PAGE = FileKind("a web page (HTML)", get="download the file itself, not the page that shows it")
_LONGEST_HEADER = 100_000_000  # of a safetensors file, in bytes
_TAGS = b"\x0a\x12\x1a\x22\x2a\x32\x3a\x42"  # fields of ModelProto that may follow ir_version


def kind_of(path: Path) -> FileKind | None:
    """The kind of a file or folder by its content; None if it is not known.

    Raises:
        OSError: the file cannot be read.
    """
    # A folder first, and never a FIFO: opening one would wait for its other end.
    if path.is_dir():
        found = _SAVED_MODEL if (path / "saved_model.pb").is_file() else None
        return found or FileKind("a folder")
    if not stat.S_ISREG(path.stat().st_mode):
        return FileKind("no regular file")
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if not head:
            return FileKind("empty (0 bytes)", get="export or copy it again")
        if head[:4] == b"PK\x03\x04":
            return _zipped(file)
    for at, magic, kind in _MAGIC:
        if head[at : at + len(magic)] == magic:
            return kind
    header = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and header <= _LONGEST_HEADER:
        whole = header + 8 <= path.stat().st_size
        return (
            _SAFETENSORS
            if whole
            else FileKind("a truncated safetensors file", get="download or copy it again")
        )
    return _by_content(head)


def _by_content(head: bytes) -> FileKind | None:
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return _PAGE
    if head[:1] == b"\x08" and b"\x00" < head[1:2] < b"\x20" and head[2:3] in {bytes([tag]) for tag in _TAGS}:
        return _ONNX
    return _text(head)


def _zipped(file: BinaryIO) -> FileKind:
    try:
        names = zipfile.ZipFile(file).namelist()
    except zipfile.BadZipFile:
        return FileKind("a truncated zip archive", get="download or copy it again")
    inside = {name.partition("/")[2] for name in names} | set(names)
    if any(name.startswith("code/") for name in inside) and "constants.pkl" in inside:
        return _TORCHSCRIPT
    if inside & {"serialized_exported_program.json", "archive_format"} or any(
        name.startswith("models/") and name.endswith(".json") for name in inside
    ):
        return _EXPORTED
    if "data.pkl" in inside:
        return _SAVED
    if "model.weights.h5" in inside:
        return _KERAS
    if names and all(name.endswith(".npy") for name in names):
        return _ARRAYS
    return FileKind("a zip archive", get="unzip {}")


def _text(head: bytes) -> FileKind | None:
    try:
        text = head[: _HEAD - 3].decode() if len(head) == _HEAD else head.decode()
    except UnicodeDecodeError as error:
        if error.end < _HEAD - 8:
            return None
        text = head[: error.start].decode()
    if any(ord(character) < 0x20 and character not in "\t\r\n\f" for character in text):  # noqa: PLR2004 - control
        return None
    if re.search(r"^edgepack: *\d", text, re.MULTILINE):
        return _RECIPE
    lines = text.split()
    return FileKind(f"a text file that begins with {' '.join(lines)[:_SHOWN]!r}") if lines else None


# The next step where a file of one use stands in the place of another; {} is the path, quoted for a shell.
_USE: dict[tuple[Wanted, Wanted], str] = {
    ("model", "recipe"): "edgepack init {} && edgepack run recipe.yaml",
    ("model", "weights"): "an ONNX file has its weights in it: name it as model.onnx, without model.source",
    ("model", "bundle"): "edgepack init {} && edgepack run recipe.yaml",
    ("recipe", "bundle"): "edgepack package {}",
    ("recipe", "model"): "edgepack run {}",
    ("bundle", "recipe"): "edgepack deploy {} DEVICE",
    ("bundle", "model"): "edgepack bundle inspect {}",
    (
        "weights",
        "model",
    ): "export the network that they belong to with torch.onnx.export, or name its source as "
    "model.source and this file as model.weights",
    (
        "weights",
        "recipe",
    ): "edgepack init my_module:my_network, and name the file as model.weights in the recipe",
}


def wrong_kind(path: Path, wanted: Wanted) -> tuple[str, str | None] | None:
    """Why a file is not of the kind wanted, and the next step, if that is known.

    None if its content is not known, if it is of that kind after all, or if it cannot be read.
    """
    try:
        kind = kind_of(path)
    except OSError:
        return None
    if kind is None or kind.holds == wanted:
        return None
    step = kind.get or (_USE.get((kind.holds, wanted)) if kind.holds else None)
    shown = quote(str(path))
    return f"it is {kind.what}", None if step is None else step.replace("{}", shown)


def use_of(path: Path) -> Wanted | None:
    """What a file can be used for by its content; None if that is not known or it cannot be read."""
    try:
        kind = kind_of(path)
    except OSError:
        return None
    return None if kind is None else kind.holds
