"""Weights files: .safetensors, and .pt files with nothing but weights; checked before they are loaded."""

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base.filekind import wrong_kind
from edgepack.errors import InputError

if TYPE_CHECKING:
    import torch

_SHOWN = 4  # keys named in an error


def read_weights(path: Path) -> "tuple[dict[str, torch.Tensor], dict[str, str]]":
    """Read the tensors of a weights file by name, and the metadata of a .safetensors file.

    Raises:
        InputError: if the file is missing, empty, corrupt, of another kind, or contains pickled objects.
    """
    if not path.is_file():
        raise InputError("there is no such weights file", where=str(path))
    found = wrong_kind(path, "weights")
    if found is not None:
        raise InputError(f"the weights cannot be loaded: {found[0]}", where=str(path), next=found[1])
    return _read_safetensors(path) if path.suffix == ".safetensors" else (_read_pt(path), {})


def load_state(module: "torch.nn.Module", state: "dict[str, torch.Tensor]", path: Path) -> None:
    """Load the tensors ``state``, read from ``path``, into ``module``.

    Raises:
        InputError: naming missing and unexpected keys and wrong shapes; or NaN or infinite weights.
    """
    import torch

    own = module.state_dict()
    problems = []
    for label, names in (("missing", own.keys() - state.keys()), ("unexpected", state.keys() - own.keys())):
        if names:
            problems.append(f"{label}: {_list_names(sorted(names))}")
    wrong = [
        f"{name} is {list(state[name].shape)} in the file and {list(own[name].shape)} in the model"
        for name in sorted(own.keys() & state.keys())
        if state[name].shape != own[name].shape
    ]
    if wrong:
        problems.append(f"wrong shape: {_list_names(wrong)}")
    if problems:
        raise InputError(
            f"the weights do not match {type(module).__name__}", where=str(path), why="; ".join(problems)
        )
    broken = [n for n, v in state.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if broken:
        raise InputError(f"weights are NaN or infinite: {_list_names(broken)}", where=str(path))
    module.load_state_dict(state)


def _list_names(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _read_safetensors(path: Path) -> "tuple[dict[str, torch.Tensor], dict[str, str]]":
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            "the file is not safetensors, or is truncated", where=str(path), why=str(error)
        ) from error


def _read_pt(path: Path) -> "dict[str, torch.Tensor]":
    import torch

    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            "the .pt file contains more than weights, or is corrupt",
            where=str(path),
            why="loading it would run pickled code; only plain tensors are loaded",
            next="save only the weights: torch.save(model.state_dict(), path), or preferably as .safetensors",
        ) from error
    except Exception as error:  # torch.load may raise any error on corrupt bytes
        raise InputError("the .pt file is corrupt", where=str(path), why=str(error).strip()[:300]) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(
            "the .pt file is not a state_dict of tensors",
            where=str(path),
            next="save only the weights: torch.save(model.state_dict(), path)",
        )
    return state
