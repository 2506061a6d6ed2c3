"""Checkpoints of torch models as safetensors, with metadata describing how to rebuild the model from its source.

A compressed network is its source's module with replaced layers and other layer sizes. A method's replacements
are recorded as a :class:`Change`, which the method can repeat (``Method.rebuild``), together with the
:class:`Structure` before the change, because a layer that was pruned before is replaced at its pruned size. A chain
of steps is restored change by change: first the sizes, then the replacement; finally the
sizes at the end::

    metadata = {"edgepack": '{"checkpoint": 3,
                              "changes": [{"method": "low-rank", "record": {"fc": {"rank": 8}},
                                           "found": {"sizes": {"fc": {"in_features": 16, ...}, ...},
                                                     "shapes": {"fc.weight": [10, 16], ...}}}],
                              "sizes": {"stem.0": {"in_channels": 1, "out_channels": 24, ...}, ...}}'}

There is only one key: safetensors writes several in random order, and equal models should give equal files.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.errors import InputError
from edgepack.torchnet.layers import SIZE_NAMES, resize, sizes
from edgepack.torchnet.weights import load_state, read_weights

if TYPE_CHECKING:
    import torch

_VERSIONS = (1, 2, 3)  # 1 had no changes; those of 2 did not include the structure before the change
_KEY = "edgepack"
_CORRUPT = "the checkpoint's record of layer sizes is corrupt"

Rebuild = Callable[["torch.nn.Module", Mapping[str, Any]], "torch.nn.Module"]
"""Repeats a method's recorded change on a module with the recorded structure; weights are loaded later."""


@dataclass(frozen=True)
class Structure:
    """The sizes in a module that compression may change.

    Attributes:
        sizes: sizes of every layer that has any (:data:`edgepack.torchnet.layers.SIZES`), by the layer's name.
        shapes: shapes of all tensors in these layers, by their names in the module's ``state_dict()``.
    """

    sizes: Mapping[str, Mapping[str, int]]
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, module: "torch.nn.Module") -> "Structure":
        """Return the current structure of ``module``."""
        layers = {name: layer for name, layer in module.named_modules() if sizes(layer)}
        shapes = {
            _join_name(name, key): tuple(tensor.shape)
            for name, layer in layers.items()
            for key, tensor in layer.state_dict().items()
        }
        return cls({name: sizes(layer) for name, layer in layers.items()}, shapes)


@dataclass(frozen=True)
class Change:
    """A method's change to a module's structure, beyond the sizes of torch's own layers.

    Attributes:
        method: name of the method.
        record: the method's own JSON values, from which it repeats the change.
        before: the structure before the change; None in a checkpoint of version 2, which did not store it.
    """

    method: str
    record: Mapping[str, Any]
    before: Structure | None = None


@dataclass(frozen=True)
class Restored:
    """A restored module in eval mode, the changes applied to its source's module, and what was done to its weights."""

    module: "torch.nn.Module"
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()


def save(module: "torch.nn.Module", path: Path, changes: Sequence[Change] = ()) -> None:
    """Write weights, layer sizes and ``changes`` of ``module`` to ``path`` (.safetensors), atomically.

    Args:
        module: the module to save.
        path: the file to write.
        changes: all structural changes made by methods, in order.

    Raises:
        InputError: if the module has state other than tensors.
    """
    import torch
    from safetensors.torch import save as serialise

    state = module.state_dict()
    strange = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise InputError(
            f"the module's state {strange[0]!r} is of type {type(state[strange[0]]).__name__}, not a tensor"
        )
    document = {
        "checkpoint": _VERSIONS[-1],
        "changes": [_as_json(change) for change in changes],
        "sizes": Structure.of(module).sizes,
    }
    metadata = {_KEY: json.dumps(document, sort_keys=True)}
    # Clones: safetensors rejects tensors that share memory (tied weights).
    data = serialise({name: value.detach().contiguous().clone() for name, value in state.items()}, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def restore(source: "torch.nn.Module", path: Path, rebuilders: Mapping[str, Rebuild]) -> Restored:
    """Restore a module saved with :func:`save` from its source's module, which is modified in place or discarded.

    Args:
        source: the module as built by its source.
        path: the checkpoint.
        rebuilders: by method, for the recorded changes.

    Raises:
        InputError: as :func:`load`, or if the file was not written by :func:`save`.
    """
    if path.is_file() and path.stat().st_size and _KEY not in read_weights(path).metadata:
        raise InputError("the file is not an edgepack checkpoint", where=str(path))
    return load(source, path, rebuilders)


def load(
    module: "torch.nn.Module", path: Path, rebuilders: Mapping[str, Rebuild], *, trust: bool = False
) -> Restored:
    """Load weights into ``module``: plain ones (.safetensors, .pt, .pth, .ckpt, .bin), or a checkpoint.

    ``trust`` allows pickled objects in the file. Then what was done to load them is in the notes.

    Raises:
        InputError: naming missing and unexpected keys and wrong shapes; or if the file is missing, empty, corrupt,
            has NaN or infinite weights, or changes of a method that is not installed.
        TrustError: the file contains pickled objects, and is not trusted.
    """
    weights = read_weights(path, trust=trust)
    state, metadata = weights.tensors, weights.metadata
    changes: tuple[Change, ...] = ()
    if _KEY in metadata:
        document = _document(metadata[_KEY], path)
        changes = _changes(document, path)
        for change in changes:
            if change.before is not None:
                _resize(module, change.before, path)
            module = _rebuild(module, change, rebuilders, path)
        _resize(module, _final(document, state, path), path)
    unpickled = f"{path.name} was unpickled, which runs code that it names" if weights.unpickled else None
    notes = (unpickled, load_state(module, state, path))
    return Restored(module.eval(), changes, tuple(note for note in notes if note))


def _document(text: str, path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(text)
        version = document["checkpoint"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(_CORRUPT, where=str(path)) from error
    if version not in _VERSIONS:
        versions = f"{', '.join(map(str, _VERSIONS[:-1]))} or {_VERSIONS[-1]}"
        raise InputError(
            f"checkpoint version {version} is not supported (must be {versions})", where=str(path)
        )
    return document


def _as_json(change: Change) -> dict[str, Any]:
    before = None if change.before is None else {"sizes": change.before.sizes, "shapes": change.before.shapes}
    return {"method": change.method, "record": change.record, "found": before}


def _changes(document: dict[str, Any], path: Path) -> tuple[Change, ...]:
    try:
        return tuple(
            Change(str(each["method"]), dict(each["record"]), _read_structure(each.get("found")))
            for each in document.get("changes", ())
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError("the checkpoint's record of changes is corrupt", where=str(path)) from error


def _read_structure(record: dict[str, Any] | None) -> Structure | None:
    if record is None:
        return None
    shapes = {str(name): tuple(map(_size, shape)) for name, shape in record["shapes"].items()}
    return Structure(_sizes(record["sizes"]), shapes)


def _final(document: dict[str, Any], state: "dict[str, torch.Tensor]", path: Path) -> Structure:
    """Return the structure of the saved module; the shapes are those of the tensors in the file."""
    try:
        recorded = _sizes(document["sizes"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(_CORRUPT, where=str(path)) from error
    return Structure(recorded, {name: tuple(tensor.shape) for name, tensor in state.items()})


def _sizes(record: dict[str, Any]) -> dict[str, dict[str, int]]:
    layers = {name: {key: _size(value) for key, value in each.items()} for name, each in record.items()}
    if unknown := {key for each in layers.values() for key in each} - SIZE_NAMES:
        raise ValueError(f"no layer has the size {min(unknown)!r}")
    return layers


def _size(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is not a size")
    return value


def _join_name(layer: str, tensor: str) -> str:
    """Return the full name of a layer's tensor; the module itself is the layer ``""``."""
    return f"{layer}.{tensor}" if layer else tensor


def _rebuild(
    module: "torch.nn.Module", change: Change, rebuilders: Mapping[str, Rebuild], path: Path
) -> "torch.nn.Module":
    if change.method not in rebuilders:
        raise InputError(
            f"the checkpoint contains a change by {change.method}, which is not available here",
            where=str(path),
            why="the method is not installed, or has another version",
            next="install the package that provides it; edgepack methods lists the installed ones",
        )
    try:
        return rebuilders[change.method](module, change.record)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(
            f"the change by {change.method} cannot be repeated on {type(module).__name__}",
            where=str(path),
            why=f"{type(error).__name__}: {error}; the model's source has changed, or the record is corrupt",
            next="re-run the step: --fresh all",
        ) from error


def _resize(module: "torch.nn.Module", wanted: Structure, path: Path) -> None:
    """Resize the layers of ``module`` whose sizes differ from those recorded."""
    layers = dict(module.named_modules())
    for name, new in wanted.sizes.items():
        layer = layers.get(name)
        own = {key: getattr(layer, key, None) for key in new}
        if layer is None or None in own.values():
            raise InputError(
                f"the checkpoint's layer {name!r} is not in {type(module).__name__}",
                where=str(path),
                why="the model's source has changed since the checkpoint was written",
            )
        if own == new:
            continue
        shapes = {key: wanted.shapes.get(_join_name(name, key)) for key in layer.state_dict()}
        try:
            resize(layer, new, {key: shape for key, shape in shapes.items() if shape is not None})
        except (AttributeError, RuntimeError, TypeError) as error:  # no such attribute, or no such tensor
            raise InputError(_CORRUPT, where=str(path), why=str(error).partition("\n")[0]) from error
