"""Cache keys: the sha256 over all ingredients of a stage, and descriptions of what changed between two."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from edgepack.base.files import sha256_json
from edgepack.base.paths import PACKAGE
from edgepack.base.versions import tool_version
from edgepack.engine.stage import F, R, Request, S, Stage
from edgepack.errors import EdgepackError

KEY_VERSION = 2
_SHOWN = 3  # changes listed in a message
_LINE = 60  # values longer than this are not shown


@cache
def code_digest(part: str | Path) -> str:
    """The sha256 over the names and contents of the source files at or below ``part``; relative paths are edgepack's own.

    Raises:
        EdgepackError: there is no such file or folder.
    """
    root = PACKAGE / part
    if not root.exists():
        raise EdgepackError(
            f"source {part} does not exist",
            why="a stage or method lists it in its `sources`, which are part of the cache key",
            next="correct the `sources` of the compression method or stage",
        )
    base = PACKAGE if root.is_relative_to(PACKAGE) else root.parent
    files = (
        [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file() and p.suffix != ".pyc")
    )
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(base).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def ingredients_of(stage: Stage[S, F, R], request: Request[S]) -> dict[str, Any]:
    """All ingredients of the result, as one JSON object."""
    shaping = stage.ingredients(request.spec)
    return {
        "key_version": KEY_VERSION,
        "stage": {"name": stage.name, "version": stage.version},
        "spec": request.spec.model_dump(mode="json"),
        "inputs": {role: artifact.sha256 for role, artifact in request.inputs.items()},
        "tools": {tool: tool_version(tool) for tool in ("python", *shaping.tools)} | dict(shaping.identities),
        "code": {part: code_digest(part) for part in shaping.sources if isinstance(part, str)},
        "code_of_others": _code_of_others([p for p in shaping.sources if isinstance(p, Path)]),
    }


def _code_of_others(paths: Sequence[Path]) -> dict[str, str]:
    """Digests by name instead of path, since the location of the code does not matter; equal names are combined."""
    named: dict[str, list[str]] = {}
    for path in paths:
        named.setdefault(path.name, []).append(code_digest(path))
    return {
        name: digests[0] if len(digests) == 1 else sha256_json(digests) for name, digests in named.items()
    }


def key_of(ingredients: Mapping[str, Any]) -> str:
    """The cache key: sha256 over the canonical JSON of all ingredients."""
    return sha256_json(ingredients)


def why_changed(
    before: Mapping[str, Any] | None,
    now: Mapping[str, Any],
    *,
    produced: Collection[str] = (),
    derived: Collection[str] = (),
    names: Mapping[str, str] | None = None,
) -> str:
    """Describe what differs between the ingredients of the last run and these, each change once.

    Args:
        before: The ingredients of the last run, if there was one.
        now: The current ingredients.
        produced: Inputs that earlier stages produced, such as ``inputs.model``. The reason is given there, so they are
            listed only if nothing else changed.
        derived: Ingredients that follow from others, listed only if none of these changed.
        names: Display names by path prefix; the longest prefix applies.
    """
    if before is None:
        return "first run"
    differences = _differences("", before, now)
    follows = [found for found in differences if _within(found[0], derived)]
    inputs = [found for found in differences if found not in follows and _within(found[0], produced)]
    causes = [found for found in differences if found not in follows and found not in inputs]
    changes = list(dict.fromkeys(_change(*found, names or {}) for found in causes or inputs or follows))
    if not changes:
        return "its stored result was missing or damaged"
    shown = ", ".join(changes[:_SHOWN])
    return shown if len(changes) <= _SHOWN else f"{shown} and {len(changes) - _SHOWN} more changes"


def _within(path: str, parts: Collection[str]) -> bool:
    return any(path == part or path.startswith(f"{part}.") for part in parts)


_MISSING = object()


def _differences(path: str, a: Any, b: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        found = []
        for name in sorted({*a, *b}):
            inner = f"{path}.{name}" if path else str(name)
            found += _differences(inner, a.get(name, _MISSING), b.get(name, _MISSING))
        return found
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [
            one
            for i, (x, y) in enumerate(zip(a, b, strict=True))
            for one in _differences(f"{path}.{i}", x, y)
        ]
    return [] if a == b else [(path, a, b)]


def _change(path: str, a: Any, b: Any, names: Mapping[str, str]) -> str:
    head, _, rest = path.partition(".")
    start = max((one for one in names if path.startswith(one)), key=len, default=None)
    name = rest or head if start is None else names[start] + path.removeprefix(start)
    if head == "inputs":
        return f"{name} changed"
    if head == "code":
        return f"edgepack's {rest} changed"
    if a is _MISSING:
        return f"{name} is new"
    if b is _MISSING:
        return f"{name} was removed"
    if isinstance(a, str | int | float | bool | None) and len(f"{a}{b}") < _LINE:
        return f"{name} {a} → {b}"
    return f"{name} changed"
