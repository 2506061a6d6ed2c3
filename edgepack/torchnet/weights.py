"""Weights files: .safetensors, and .pt files with nothing but weights, or with pickled objects that the user trusts."""

import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from edgepack.base.filekind import wrong_kind
from edgepack.errors import InputError, TrustError

if TYPE_CHECKING:
    import torch

_SHOWN = 4  # keys named in an error
_WRAPPERS = ("module.", "model.", "_orig_mod.")  # put before every key by wrappers of a module
_STATES = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "weights",
)  # keys of checkpoints that hold the weights


@dataclass(frozen=True)
class WeightsFile:
    """The contents of a weights file.

    Attributes:
        tensors: by name.
        metadata: of a .safetensors file.
        unpickled: whether code in the file may have run.
    """

    tensors: "dict[str, torch.Tensor]"
    metadata: dict[str, str] = field(default_factory=dict)
    unpickled: bool = False


def read_weights(path: Path, *, trust: bool = False) -> WeightsFile:
    """Read a weights file.

    Args:
        path: the file.
        trust: whether pickled objects may be loaded, which runs the code that they name.

    Raises:
        InputError: if the file is missing, empty, corrupt, or of another kind.
        TrustError: it contains pickled objects, and is not trusted.
    """
    if not path.is_file():
        raise InputError("there is no such weights file", where=str(path))
    found = wrong_kind(path, "weights")
    if found is not None:
        raise InputError(f"the weights cannot be loaded: {found[0]}", where=str(path), next=found[1])
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pt(path, trust=trust)


def load_state(module: "torch.nn.Module", state: "dict[str, torch.Tensor]", path: Path) -> str | None:
    """Load the tensors ``state``, read from ``path``, into ``module``.

    A prefix that a wrapper puts before every key (``module.`` of DistributedDataParallel, ``model.`` of Lightning,
    ``_orig_mod.`` of torch.compile) is removed, if the keys are the module's then and not otherwise. Returns a note that
    says so; None if the keys are used as they are.

    Raises:
        InputError: naming missing and unexpected keys and wrong shapes; or NaN or infinite weights.
    """
    import torch

    own = module.state_dict()
    prefix = _wrapper_prefix(set(state), set(own))
    state = {name.removeprefix(prefix): value for name, value in state.items()}
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
    return f"the prefix {prefix!r} of every key in {path.name} was removed" if prefix else None


def _wrapper_prefix(given: set[str], own: set[str]) -> str:
    """The prefix without which all given keys are the module's own; empty if there is none."""
    prefix, rest = "", given
    while rest and rest != own:
        found = next((each for each in _WRAPPERS if all(name.startswith(each) for name in rest)), None)
        if found is None:
            return ""
        prefix += found
        rest = {name.removeprefix(found) for name in rest}
    return prefix


def _list_names(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _read_safetensors(path: Path) -> WeightsFile:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            return WeightsFile(tensors, file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            "the file is not safetensors, or is truncated", where=str(path), why=str(error)
        ) from error


def _read_pt(path: Path, *, trust: bool) -> WeightsFile:
    import torch

    try:
        return WeightsFile(_state_of(torch.load(path, map_location="cpu", weights_only=True), path))
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        if trust:
            return _unpickle(path)
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"an object of {found[1]}" if found else "more than weights, or is corrupt"
        yours = f"torch.save(getattr(x, 'state_dict', lambda: x)(), {str(path.with_suffix('.weights.pt'))!r})"
        code = f"import torch; x = torch.load({str(path)!r}, map_location='cpu', weights_only=False); {yours}"
        raise (TrustError if found else InputError)(
            f"the weights file contains {what}",
            where=str(path),
            why="loading it would run pickled code; without --trust only plain tensors are loaded",
            next="if you trust the file, run the command with --trust (in Python: trust=True), "
            f"or save its weights alone: python -c {quote(code)}",
        ) from error
    except Exception as error:  # torch.load may raise any error on corrupt bytes
        raise InputError(
            "the weights file is corrupt", where=str(path), why=str(error).strip()[:300]
        ) from error


def _unpickle(path: Path) -> WeightsFile:
    """Read a file with whatever objects it holds; of a module among them, its weights."""
    import torch
    from torch import nn

    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # code of the file may raise any error
        raise InputError(
            "the weights file cannot be unpickled",
            where=str(path),
            why=f"{type(error).__name__}: {str(error).strip()[:300]}",
            next="install the packages that its objects are from, or put their modules beside the recipe",
        ) from error
    if isinstance(found, nn.Module):
        found = found.state_dict()
    elif isinstance(found, dict):
        found = {
            key: value.state_dict() if isinstance(value, nn.Module) else value for key, value in found.items()
        }
    return WeightsFile(_state_of(found, path), unpickled=True)


def _state_of(state: Any, path: Path) -> "dict[str, torch.Tensor]":
    """The tensors of a state_dict, or of a checkpoint that has one beside other values."""
    import torch

    def plain(value: Any) -> bool:
        return isinstance(value, dict) and all(isinstance(each, torch.Tensor) for each in value.values())

    inner = [key for key in _STATES if isinstance(state, dict) and state.get(key) and plain(state[key])]
    if len(inner) == 1:
        state = state[inner[0]]
    if not plain(state):
        keys = f": {_list_names([str(key) for key in state])}" if isinstance(state, dict) else ""
        raise InputError(
            "the weights file is not a state_dict of tensors",
            where=str(path),
            why=f"it holds a {type(state).__name__}{keys}",
            next="save only the weights: torch.save(model.state_dict(), path)",
        )
    found: dict[str, torch.Tensor] = state
    return found
