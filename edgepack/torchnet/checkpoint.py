"""A torch model on disk without pickles: safetensors, with the layers' sizes as JSON in its metadata.

A compressed network is its source's module with other layer sizes. The sizes are recorded absolutely
(not as a history of edits), so any chain of steps is restored in one go::

    metadata = {"edgepack": '{"checkpoint": 1, "sizes": {"stem.0": {"in_channels": 1, "out_channels": 24, ...}, ...}}'}

One key only: safetensors writes several in random order, and equal models should give equal files.
"""

import json
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.errors import InputError
from edgepack.torchnet.layers import shrink, sizes

if TYPE_CHECKING:
    import torch

    from edgepack.spec import Model

_VERSION = 1
_SHOWN = 4  # keys named in an error


def load_source(model: "Model", base: Path) -> "torch.nn.Module":
    """The module that ``model.source`` builds, with ``model.weights`` if given, in eval mode.

    Raises:
        InputError: if the source cannot be imported, fails, or does not return a ``torch.nn.Module``;
            if the weights are missing, unsafe, corrupt, or do not fit.
    """
    from torch import nn

    from edgepack.data.user_code import call

    if model.source is None:
        raise InputError("the recipe's model has no source", next="give model.source as module:callable")
    module = call(model.source, base)
    if not isinstance(module, nn.Module):
        raise InputError(
            f"{model.source} returned a {type(module).__name__}, not a torch.nn.Module", where=model.source
        )
    if model.weights is not None:
        load_weights(module, base / model.weights)
    return module.eval()


def load_weights(module: "torch.nn.Module", path: Path) -> None:
    """Load ``path`` (.safetensors, or a weights-only .pt/.pth) into ``module``, in place.

    Raises:
        InputError: naming missing and unexpected keys and wrong shapes; or if the file is missing,
            empty, corrupt, holds pickled objects, or has NaN or infinite weights.
    """
    if not path.is_file():
        raise InputError("there is no such weights file", where=str(path))
    if path.stat().st_size == 0:
        raise InputError("the weights file is empty (0 bytes)", where=str(path))
    if path.suffix == ".safetensors":
        state, metadata = _read_safetensors(path)
        if "edgepack" in metadata:
            _restore_sizes(module, state, metadata["edgepack"], path)
    elif path.suffix in {".pt", ".pth"}:
        state = _read_pt(path)
    else:
        raise InputError(
            f"weights of kind {path.suffix or 'without suffix'!r} are not known",
            where=str(path),
            next="save them as .safetensors",
        )
    _load_state(module, state, path)


def save(module: "torch.nn.Module", path: Path) -> None:
    """Write the weights and layer sizes of ``module`` to ``path`` (.safetensors), atomically.

    Raises:
        InputError: if the module has state that is not tensors.
    """
    import torch
    from safetensors.torch import save

    state = module.state_dict()
    strange = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise InputError(
            f"the module's state {strange[0]!r} is a {type(state[strange[0]]).__name__}, not a tensor"
        )
    layers = {name: sizes(layer) for name, layer in module.named_modules() if sizes(layer)}
    metadata = {"edgepack": json.dumps({"checkpoint": _VERSION, "sizes": layers}, sort_keys=True)}
    # Clones: safetensors refuses tensors that share memory (tied weights).
    data = save({name: value.detach().contiguous().clone() for name, value in state.items()}, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def restore(module_source: "torch.nn.Module", path: Path) -> "torch.nn.Module":
    """``module_source``, changed in place to what :func:`save` wrote to ``path``; in eval mode.

    Raises:
        InputError: as :func:`load_weights`, or if the file was not written by :func:`save`.
    """
    if path.is_file() and path.stat().st_size:
        _, metadata = _read_safetensors(path)
        if "edgepack" not in metadata:
            raise InputError("the file is not a checkpoint of edgepack", where=str(path))
    load_weights(module_source, path)
    return module_source.eval()


def _read_safetensors(path: Path) -> "tuple[dict[str, torch.Tensor], dict[str, str]]":
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            "the file is not safetensors, or is cut off", where=str(path), why=str(error)
        ) from error


def _read_pt(path: Path) -> "dict[str, torch.Tensor]":
    import torch

    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            "the .pt file holds more than weights, or is corrupt",
            where=str(path),
            why="loading it would run pickled code; only plain tensors are read",
            next="save weights alone: torch.save(model.state_dict(), path), or better as .safetensors",
        ) from error
    except Exception as error:  # torch.load raises whatever the bytes make its parsers raise
        raise InputError("the .pt file is corrupt", where=str(path), why=str(error).strip()[:300]) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(
            "the .pt file is not a state_dict of tensors",
            where=str(path),
            next="save weights alone: torch.save(model.state_dict(), path)",
        )
    return state


def _load_state(module: "torch.nn.Module", state: "dict[str, torch.Tensor]", path: Path) -> None:
    import torch

    own = module.state_dict()
    problems = []
    for label, names in (("missing", own.keys() - state.keys()), ("unexpected", state.keys() - own.keys())):
        if names:
            problems.append(f"{label}: {_listed(sorted(names))}")
    wrong = [
        f"{name} is {list(state[name].shape)} in the file and {list(own[name].shape)} in the model"
        for name in sorted(own.keys() & state.keys())
        if state[name].shape != own[name].shape
    ]
    if wrong:
        problems.append(f"wrong shape: {_listed(wrong)}")
    if problems:
        raise InputError(
            f"the weights do not fit {type(module).__name__}", where=str(path), why="; ".join(problems)
        )
    broken = [n for n, v in state.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if broken:
        raise InputError(f"weights are NaN or infinite: {_listed(broken)}", where=str(path))
    module.load_state_dict(state)


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _restore_sizes(
    module: "torch.nn.Module", state: "dict[str, torch.Tensor]", record: str, path: Path
) -> None:
    """Resize the layers whose recorded sizes differ from the module's."""
    try:
        document = json.loads(record)
        if document["checkpoint"] != _VERSION:
            raise InputError(
                f"the checkpoint has version {document['checkpoint']}, this edgepack reads {_VERSION}",
                where=str(path),
            )
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
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise InputError("the checkpoint's record of layer sizes is corrupt", where=str(path)) from error
