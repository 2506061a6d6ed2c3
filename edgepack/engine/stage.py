"""The stage contract: a step of the pipeline whose result depends on nothing but its ingredients.

A stage declares which tools and which of edgepack's own source folders shape its result. Its cache key
is the sha256 over *all* ingredients: stage name and version, spec, the digest of every input, tool
versions and the digest of that source code. The function that does the work sees only the spec, the
input files and ``resources`` (a board session, a progress callback), which must not change the result.
See docs/architecture.md, "The stage contract".
"""

import hashlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgepack.base.files import sha256_json
from edgepack.base.paths import PACKAGE
from edgepack.engine.artifact import Artifact

KEY_VERSION = 1
ABSENT = "absent"  # the version of a tool that is not installed


@dataclass(frozen=True)
class Output:
    """A file a stage made: the role it plays for later stages, and its kind and name for people."""

    path: Path
    kind: str
    name: str


@dataclass(frozen=True)
class Made:
    """All that a stage made: files by role, and figures (JSON values)."""

    files: Mapping[str, Output] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    keep: bool = True  # False: it is less than its spec promises, and must not answer for it another time


@dataclass(frozen=True)
class Work:
    """What a stage's function may look at."""

    spec: Mapping[str, Any]
    inputs: Mapping[str, Path]
    scratch: Path
    resources: Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Attributes:
        name: as it stands in reports.
        version: raised when the meaning of the result changes although the code's digest would not tell.
        tools: distributions whose versions are part of the key.
        code: files and folders of edgepack whose source is part of the key.
        run: does the work.
    """

    name: str
    version: int
    tools: tuple[str, ...]
    code: tuple[str, ...]
    run: Callable[[Work], Made]


@dataclass(frozen=True)
class Scope:
    """Where in the run a stage stands: for which target, variant and step."""

    recipe: str
    stage: str
    target: str | None = None
    variant: str | None = None

    def __str__(self) -> str:
        return "/".join(part or "-" for part in (self.recipe, self.stage, self.target, self.variant))


@cache
def tool_version(distribution: str) -> str:
    """The installed version of a distribution; ABSENT when it is not installed."""
    if distribution == "python":
        return platform.python_version()
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ABSENT


@cache
def code_digest(parts: tuple[str, ...]) -> str:
    """The sha256 over edgepack's own source files below ``parts``, names included."""
    digest = hashlib.sha256()
    for part in parts:
        root = PACKAGE / part
        files = (
            [root]
            if root.is_file()
            else sorted(p for p in root.rglob("*") if p.is_file() and p.suffix != ".pyc")
        )
        for path in files:
            digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def ingredients(stage: Stage, spec: Mapping[str, Any], inputs: Mapping[str, Artifact]) -> dict[str, Any]:
    """Everything a stage's result depends on, as one JSON object."""
    return {
        "key_version": KEY_VERSION,
        "stage": {"name": stage.name, "version": stage.version},
        "spec": dict(spec),
        "inputs": {role: artifact.sha256 for role, artifact in inputs.items()},
        "tools": {tool: tool_version(tool) for tool in ("python", *stage.tools)},
        "code": {part: code_digest((part,)) for part in stage.code},
    }


def key_of(parts: Mapping[str, Any]) -> str:
    """The cache key: sha256 over the canonical JSON of all ingredients."""
    return sha256_json(parts)


def why_changed(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """In words: what differs between the ingredients of the last run and these."""
    if before is None:
        return "first run"
    changes = [_change(path, a, b) for path, a, b in _differences("", before, now)]
    if not changes:
        return "its stored result was missing or damaged"
    shown = ", ".join(changes[:3])
    return shown if len(changes) <= 3 else f"{shown} and {len(changes) - 3} more changes"  # noqa: PLR2004


_MISSING = object()


def _differences(path: str, a: Any, b: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        found = []
        for name in sorted({*a, *b}):
            inner = f"{path}.{name}" if path else str(name)
            found += _differences(inner, a.get(name, _MISSING), b.get(name, _MISSING))
        return found
    return [] if a == b else [(path, a, b)]


def _change(path: str, a: Any, b: Any) -> str:
    head, _, rest = path.partition(".")
    if head == "inputs":
        return f"{rest} changed"
    if head == "code":
        return f"edgepack's {rest} changed"
    name = rest or head
    if a is _MISSING:
        return f"{name} is new"
    if b is _MISSING:
        return f"{name} is gone"
    if isinstance(a, str | int | float | bool | None) and len(f"{a}{b}") < 60:  # noqa: PLR2004 - fits a line
        return f"{name} {a} → {b}"
    return f"{name} changed"
