"""Methods of other packages, discovered through the entry-point group ``edgepack.methods``.

    [project.entry-points."edgepack.methods"]
    thin-linear = "my_package.thin_linear:METHOD"

An entry point that cannot be loaded is kept with the reason, which is shown if a recipe uses it and by
``edgepack methods`` and ``edgepack doctor``; the other entry points are unaffected.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, get_args, get_origin

from edgepack.compression.method import EitherMethod, Method, OnnxMethod, Step, TorchMethod

GROUP = "edgepack.methods"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True)
class Registry:
    """All methods by name, and the entry points that cannot be used, by name with the reason."""

    methods: Mapping[str, Method[Any]]
    unusable: Mapping[str, str] = field(default_factory=dict)


def with_entry_points(
    own: Mapping[str, Method[Any]], entries: Iterable[EntryPoint] | None = None
) -> Registry:
    """Return the built-in methods and those of installed packages, built-in first."""
    methods, unusable = dict(own), {}
    for entry in sorted(entry_points(group=GROUP) if entries is None else entries, key=lambda e: e.name):
        origin = entry.dist.name if entry.dist is not None else entry.module
        try:
            method = _load(entry, origin)
        except Exception as error:  # noqa: BLE001 - importing somebody else's package: anything can come out
            unusable[entry.name] = f"{entry.value} of {origin}: {type(error).__name__}: {error}"
            continue
        if entry.name in methods:
            other = methods[entry.name].origin
            unusable[entry.name] = f"{entry.value} of {origin}: duplicate method name, also in {other}"
            continue
        methods[entry.name] = method
    return Registry(methods, unusable)


def _load(entry: EntryPoint, origin: str) -> Method[Any]:
    """Load the method of an entry point.

    Raises:
        Exception: whatever importing it raises.
        TypeError: it is not a method.
        ValueError: its names do not match.
    """
    method = entry.load()
    if not isinstance(method, TorchMethod | OnnxMethod | EitherMethod):
        raise TypeError(f"expected a TorchMethod or an OnnxMethod, got a {type(method).__name__}")
    if not (isinstance(method.spec, type) and issubclass(method.spec, Step)):
        raise TypeError("its spec is not a subclass of edgepack.compression.Step")
    if get_origin(method.spec.model_fields["method"].annotation) is not Literal:
        raise TypeError(f"its spec does not say method: Literal[{entry.name!r}]")
    if get_args(method.spec.model_fields["method"].annotation) != (entry.name,):
        raise ValueError(f"its spec declares method {method.name!r}, but its entry point is {entry.name!r}")
    if not _NAME.fullmatch(entry.name):
        raise ValueError("a method's name may contain lower-case letters, digits, - and _")
    return replace(method, origin=origin)
