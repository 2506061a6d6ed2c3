"""A torch model on disk without pickles: safetensors, and in its metadata how its source becomes that model.

A compressed network is its source's module with replaced layers and other layer sizes. What a method replaced it
records as a :class:`Change`, which the method itself can make again (``Method.rebuild``); sizes are recorded as they
are at the end, not as a history, for all layers of torch that have some. So any chain of steps is restored in one go::

    metadata = {"edgepack": '{"checkpoint": 2,
                              "changes": [{"method": "low-rank", "record": {"fc": {"rank": 8}}}],
                              "sizes": {"stem.0": {"in_channels": 1, "out_channels": 24, ...}, ...}}'}

One key only: safetensors writes several in random order, and equal models should give equal files.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.errors import InputError
from edgepack.torchnet.layers import shrink, sizes
from edgepack.torchnet.weights import load_state, read_weights

if TYPE_CHECKING:
    import torch

_VERSIONS = (1, 2)  # 1 had no changes
_KEY = "edgepack"

Rebuild = Callable[["torch.nn.Module", Mapping[str, Any]], "torch.nn.Module"]
"""Makes a method's recorded change again, on a module that has the structure the method found; weights follow."""


@dataclass(frozen=True)
class Change:
    """What a method did to a module's structure, sizes of torch's own layers apart: JSON values of the method's own."""

    method: str
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Restored:
    """A module in eval mode, and the changes that made it out of its source."""

    module: "torch.nn.Module"
    changes: tuple[Change, ...] = ()


def save(module: "torch.nn.Module", path: Path, changes: Sequence[Change] = ()) -> None:
    """Write weights, layer sizes and ``changes`` of ``module`` to ``path`` (.safetensors), atomically.

    Args:
        module: what to write.
        path: where.
        changes: all that methods changed in its structure since its source, in order.

    Raises:
        InputError: if the module has state that is not tensors.
    """
    import torch
    from safetensors.torch import save as serialise

    state = module.state_dict()
    strange = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise InputError(
            f"the module's state {strange[0]!r} is a {type(state[strange[0]]).__name__}, not a tensor"
        )
    document = {
        "checkpoint": _VERSIONS[-1],
        "changes": [{"method": change.method, "record": change.record} for change in changes],
        "sizes": {name: sizes(layer) for name, layer in module.named_modules() if sizes(layer)},
    }
    metadata = {_KEY: json.dumps(document, sort_keys=True)}
    # Clones: safetensors refuses tensors that share memory (tied weights).
    data = serialise({name: value.detach().contiguous().clone() for name, value in state.items()}, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def restore(source: "torch.nn.Module", path: Path, rebuilders: Mapping[str, Rebuild]) -> Restored:
    """What :func:`save` wrote to ``path``, made out of its source's module, which is changed in place or given up.

    Args:
        source: the module as its source builds it.
        path: the checkpoint.
        rebuilders: by method, for the changes in it.

    Raises:
        InputError: as :func:`load`, or if the file was not written by :func:`save`.
    """
    if path.is_file() and path.stat().st_size and _KEY not in read_weights(path)[1]:
        raise InputError("the file is not a checkpoint of edgepack", where=str(path))
    return load(source, path, rebuilders)


def load(module: "torch.nn.Module", path: Path, rebuilders: Mapping[str, Rebuild]) -> Restored:
    """``module`` with the weights of ``path``: plain ones (.safetensors, weights-only .pt or .pth), or a checkpoint's.

    Raises:
        InputError: naming missing and unexpected keys and wrong shapes; or if the file is missing, empty, corrupt,
            holds pickled objects, has NaN or infinite weights, or changes of a method that is not installed.
    """
    state, metadata = read_weights(path)
    changes: tuple[Change, ...] = ()
    if _KEY in metadata:
        document = _document(metadata[_KEY], path)
        changes = _changes(document, path)
        for change in changes:
            module = _rebuilt(module, change, rebuilders, path)
        _resize(module, state, document, path)
    load_state(module, state, path)
    return Restored(module.eval(), changes)


def _document(text: str, path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(text)
        version = document["checkpoint"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError("the checkpoint's record of layer sizes is corrupt", where=str(path)) from error
    if version not in _VERSIONS:
        read = " and ".join(map(str, _VERSIONS))
        raise InputError(f"the checkpoint has version {version}, this edgepack reads {read}", where=str(path))
    return document


def _changes(document: dict[str, Any], path: Path) -> tuple[Change, ...]:
    try:
        return tuple(
            Change(str(each["method"]), dict(each["record"])) for each in document.get("changes", ())
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("the checkpoint's record of its changes is corrupt", where=str(path)) from error


def _rebuilt(
    module: "torch.nn.Module", change: Change, rebuilders: Mapping[str, Rebuild], path: Path
) -> "torch.nn.Module":
    if change.method not in rebuilders:
        raise InputError(
            f"the checkpoint was changed by {change.method}, which cannot make its change again here",
            where=str(path),
            why="the method is not installed, or of another version",
            next="edgepack methods lists what is; install the package that brings it",
        )
    try:
        return rebuilders[change.method](module, change.record)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(
            f"the change that {change.method} made cannot be made again on {type(module).__name__}",
            where=str(path),
            why=f"{type(error).__name__}: {error}; the model's source has changed, or the record is corrupt",
            next="run the step again: --fresh all",
        ) from error


def _resize(
    module: "torch.nn.Module", state: "dict[str, torch.Tensor]", document: dict[str, Any], path: Path
) -> None:
    """Resize the layers whose recorded sizes differ from the module's."""
    try:
        layers = dict(module.named_modules())
        for name, wanted in document["sizes"].items():
            layer = layers.get(name)
            if layer is None or sizes(layer).keys() != wanted.keys():
                raise InputError(
                    f"the checkpoint's layer {name!r} is not in {type(module).__name__}",
                    where=str(path),
                    why="the model's source has changed since the checkpoint was written",
                )
            if sizes(layer) != wanted:
                own = [key for key in layer.state_dict() if f"{name}.{key}" in state]
                shrink(layer, wanted, {key: state[f"{name}.{key}"] for key in own})
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError("the checkpoint's record of layer sizes is corrupt", where=str(path)) from error
