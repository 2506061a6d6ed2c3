"""What a recipe refers to outside itself, by content: model, weights, data files and user code."""

import hashlib
import importlib.util
from pathlib import Path

from edgepack.artifact import USER, Artifact
from edgepack.paths import PACKAGE
from edgepack.recipe import Data, Model
from edgepack.store import sha256_file

_SOURCE = {".py"}


def model_inputs(model: Model, base: Path) -> dict[str, Artifact]:
    """The digests of everything ``model`` names, by role."""
    found = {}
    if model.source is not None:
        found["model_code"] = _code(model.source, base)
    if model.onnx is not None:
        found["onnx_file"] = _path(base / model.onnx)
        found |= _external(base / model.onnx)
    if model.weights is not None:
        found["weights_file"] = _path(base / model.weights)
    return found


def data_inputs(data: Data | None, base: Path) -> dict[str, Artifact]:
    """The digests of everything ``data`` names, by role."""
    if data is None:
        return {}
    found = {}
    if data.source is not None:
        found["data_code"] = _code(data.source, base)
    if data.npz is not None:
        found["data_file"] = _path(base / data.npz)
    if data.images is not None:
        found["data_images"] = _path(base / data.images.folder)
    for text in (data.csv, data.jsonl):
        if text is not None:
            found["data_file"] = _path(base / text.file)
            if ":" in text.tokenizer:
                found["tokenizer_code"] = _code(text.tokenizer, base)
    return found


def _external(path: Path) -> dict[str, Artifact]:
    """The files an .onnx model keeps its tensors in. A file that is no model names none: loading it will say so."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        tensors = onnx.load(path, load_external_data=False).graph.initializer
    except (DecodeError, OSError):
        return {}
    names = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    return {f"onnx_data {name}": _path(path.parent / name) for name in sorted(names)}


def _path(path: Path) -> Artifact:
    """A file, or a folder as the digest over its files' names and contents; empty where there is nothing."""
    if path.is_dir():
        return _files(path, sorted(p for p in path.rglob("*") if p.is_file()))
    if not path.is_file():
        return Artifact(kind="input", name=path.name, sha256="", size=0, made_by=USER)
    return Artifact(
        kind="input", name=path.name, sha256=sha256_file(path), size=path.stat().st_size, made_by=USER
    )


def _code(reference: str, base: Path) -> Artifact:
    """The source behind ``module:callable``: the user's file or whole package, all of edgepack's own.

    What user code imports besides is not followed: an installed package counts by its own files only.
    """
    top = reference.partition(":")[0].partition(".")[0]
    if (base / f"{top}.py").is_file():
        # A single module often imports its neighbours: they all count.
        return _files(base, sorted(p for p in base.glob("*.py")))
    if (base / top).is_dir():
        return _files(base / top, _sources(base / top))
    if top == PACKAGE.name:
        return _files(PACKAGE / "zoo", _sources(PACKAGE / "zoo"))
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        return Artifact(kind="input", name=reference, sha256="", size=0, made_by=USER)
    origin = Path(spec.origin)
    return (
        _files(origin.parent, _sources(origin.parent)) if spec.submodule_search_locations else _path(origin)
    )


def _sources(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix in _SOURCE and p.is_file())


def _files(root: Path, paths: list[Path]) -> Artifact:
    digest, size = hashlib.sha256(), 0
    for path in paths:
        digest.update(f"{path.relative_to(root).as_posix()}\0{sha256_file(path)}\0".encode())
        size += path.stat().st_size
    return Artifact(kind="input", name=root.name, sha256=digest.hexdigest(), size=size, made_by=USER)
