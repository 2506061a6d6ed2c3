"""Digests of what a recipe refers to: model, weights, data files and user code."""

import hashlib
import importlib.util
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgepack.base.files import sha256_file, sha256_json
from edgepack.base.paths import PACKAGE
from edgepack.compression import StepFile
from edgepack.config.digests import ExpectedSum, expected_sums, external_files
from edgepack.config.recipe import Recipe
from edgepack.data.idx import path_of
from edgepack.data.images import image_files
from edgepack.data.sources import meaning, modules_below
from edgepack.engine.artifact import USER, Artifact
from edgepack.spec import Data, Model

_SOURCE = {".py"}
_ONNX, _ONNX_DATA, _WEIGHTS = "onnx_file", "onnx_data ", "weights_file"  # roles


@dataclass(frozen=True)
class UserFiles:
    """Digests of the files that a recipe names, by role: part of cache keys, never files in the store."""

    code: Mapping[str, Artifact]  # the source code of model.source
    model: Mapping[str, Artifact]  # weights, or the .onnx file with its external data
    data: Mapping[str, Artifact]
    samples: Mapping[str, Artifact]  # inputs without labels
    metric: Mapping[str, Artifact]  # the source code of the user's metric
    loss: Mapping[str, Artifact]  # the source code of the user's loss


def user_files(recipe: Recipe, base: Path) -> UserFiles:
    """Digests of everything that a recipe names.

    Raises:
        IntegrityError: the model has another sha256 than the recipe says: it was changed since the recipe was checked.
    """
    data, samples = recipe.data, recipe.samples
    found = model_inputs(recipe.model, base)
    for each in expected_sums(recipe.model, base):
        for role in (_WEIGHTS, _ONNX, f"{_ONNX_DATA}{each.name}"):
            if role in found and found[role].name == each.path.name:
                each.require(found[role].sha256)
    code = {role: found.pop(role) for role in ("model_code",) if role in found}
    unlabelled = {} if samples is None else {"samples_file": of_user(base / samples)}
    own = {
        role: {f"{role}_code": _code(name, base)} if name is not None and ":" in name else {}
        for role, name in (("metric", recipe.metric), ("loss", recipe.loss))
    }
    return UserFiles(code, found, data_inputs(data, base), unlabelled, own["metric"], own["loss"])


def model_inputs(model: Model, base: Path) -> dict[str, Artifact]:
    """Digests of everything that ``model`` names, by role."""
    found = {}
    if model.source is not None:
        found["model_code"] = _code(model.source, base)
    if model.onnx is not None:
        found[_ONNX] = of_user(base / model.onnx)
        found |= _external(base / model.onnx)
    if model.weights is not None:
        found[_WEIGHTS] = of_user(base / model.weights)
    return found


def data_inputs(data: Data | None, base: Path) -> dict[str, Artifact]:
    """Digests of everything that ``data`` names, by role."""
    if data is None:
        return {}
    found = {}
    if data.source is not None:
        found["data_code"] = _code(data.source, base)
    if data.npz is not None:
        found["data_file"] = of_user(base / data.npz)
    if data.images is not None:
        folder = base / data.images.folder
        images = [path for files in image_files(folder).values() for path in files]
        found["data_images"] = _files(folder, images) if images else of_user(folder)
    if data.idx is not None:
        idx, own = data.idx, ("train_images", "train_labels", "test_images", "test_labels")
        found |= {f"data_{name}": of_user(path_of(idx, base, getattr(idx, name))) for name in own}
    for text in (data.csv, data.jsonl):
        if text is not None:
            found["data_file"] = of_user(base / text.file)
            if ":" in text.tokenizer:
                found["tokenizer_code"] = _code(text.tokenizer, base)
    return found


def step_inputs(files: Iterable[StepFile], base: Path) -> dict[str, Artifact]:
    """Digests of what a compression step names, by role.

    Raises:
        IntegrityError: a file has another sha256 than the step says.
    """
    found = {}
    for file in files:
        if file.kind == "callable":
            found[file.role] = _code(file.value, base)
            continue
        path = base / file.value
        found[file.role] = of_user(path)
        if file.sha256 is not None:
            ExpectedSum(file.option, path.name, path, file.sha256).require(found[file.role].sha256)
        if path.suffix == ".onnx":
            found |= {f"{file.role} {role}": artifact for role, artifact in _external(path).items()}
    return found


def _external(path: Path) -> dict[str, Artifact]:
    """The external data files of an .onnx model. None for a file that is not a model: loading it reports that."""
    from edgepack.onnxfile.external import real_path

    folder = real_path(path).parent
    names = [name for name in external_files(path) if (folder / name).is_file()]
    return {f"{_ONNX_DATA}{name}": of_user(folder / name) for name in names}


def of_user(path: Path) -> Artifact:
    """A user's file, or a folder as the digest over its files' names and contents; empty if it does not exist."""
    if path.is_dir():
        return _files(path, sorted(p for p in path.rglob("*") if p.is_file()))
    if not path.is_file():
        return Artifact(kind="input", name=path.name, sha256="", size=0, made_by=USER)
    return Artifact(
        kind="input", name=path.name, sha256=sha256_file(path), size=path.stat().st_size, made_by=USER
    )


def _code(reference: str, base: Path) -> Artifact:
    """The source code of ``module:callable``: the user's files beside the recipe, or the installed package.

    Imports are followed beside the recipe; of an installed package, only its own files count.
    """
    name = reference.partition(":")[0]
    top = name.partition(".")[0]
    own = modules_below(name, base)
    if own:
        return _modules(base.name, own)
    if top == PACKAGE.name:  # the rest of edgepack is in the key of each stage
        return _modules(name, modules_below(name, PACKAGE.parent, within=f"{PACKAGE.name}.zoo"))
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    if len(folders) == 1:
        return _files(folders[0], _sources(folders[0]))
    if folders:  # a namespace package with several folders
        return _files(Path("/"), [path.resolve() for folder in folders for path in _sources(folder)])
    if spec is None or spec.origin is None:
        return Artifact(kind="input", name=reference, sha256="", size=0, made_by=USER)
    return of_user(Path(spec.origin))


def _modules(name: str, modules: Mapping[str, Path]) -> Artifact:
    """Modules by their names and what their source means."""
    digests = {module: hashlib.sha256(meaning(path)).hexdigest() for module, path in modules.items()}
    size = sum(path.stat().st_size for path in modules.values())
    return Artifact(kind="input", name=name, sha256=sha256_json(digests), size=size, made_by=USER)


def _sources(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix in _SOURCE and p.is_file())


def _files(root: Path, paths: list[Path]) -> Artifact:
    digest, size = hashlib.sha256(), 0
    for path in paths:
        digest.update(os.fsencode(f"{path.relative_to(root).as_posix()}\0{sha256_file(path)}\0"))
        size += path.stat().st_size
    return Artifact(kind="input", name=root.name, sha256=digest.hexdigest(), size=size, made_by=USER)
