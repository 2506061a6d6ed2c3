"""The methods of other packages: found through the entry-point group ``edgepack.methods``.

    [project.entry-points."edgepack.methods"]
    low-rank = "my_package.low_rank:METHOD"

An entry that cannot be used is kept with the reason, which is told where a recipe asks for it and by
``edgepack methods`` and ``edgepack doctor``; it keeps nobody from using the others.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, get_args, get_origin

from edgepack.compression.method import Method, OnnxMethod, Step, TorchMethod

GROUP = "edgepack.methods"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True)
class Registry:
    """All methods by name, and the entries that cannot be used, by name with the reason."""

    methods: Mapping[str, Method[Any]]
    unusable: Mapping[str, str] = field(default_factory=dict)


def with_entry_points(own: Mapping[str, Method[Any]], found: Iterable[EntryPoint] | None = None) -> Registry:
    """Our own methods and those that installed packages bring, ours first."""
    methods, unusable = dict(own), {}
    for entry in sorted(entry_points(group=GROUP) if found is None else found, key=lambda e: e.name):
        origin = entry.dist.name if entry.dist is not None else entry.module
        try:
            method = _loaded(entry, origin)
        except Exception as error:  # noqa: BLE001 - importing somebody else's package: anything can come out
            unusable[entry.name] = f"{entry.value} of {origin}: {type(error).__name__}: {error}"
            continue
        if entry.name in methods:
            other = methods[entry.name].origin
            unusable[entry.name] = f"{entry.value} of {origin}: {other} has a method of that name already"
            continue
        methods[entry.name] = method
    return Registry(methods, unusable)


def _loaded(entry: EntryPoint, origin: str) -> Method[Any]:
    """The method an entry names.

    Raises:
        Exception: whatever importing it raises.
        TypeError: it is no method.
        ValueError: its names do not agree.
    """
    method = entry.load()
    if not isinstance(method, TorchMethod | OnnxMethod):
        raise TypeError(f"expected a TorchMethod or an OnnxMethod, got a {type(method).__name__}")
    if not (isinstance(method.spec, type) and issubclass(method.spec, Step)):
        raise TypeError("its spec is not a subclass of edgepack.compression.Step")
    if get_origin(method.spec.model_fields["method"].annotation) is not Literal:
        raise TypeError(f"its spec does not say method: Literal[{entry.name!r}]")
    if get_args(method.spec.model_fields["method"].annotation) != (entry.name,):
        raise ValueError(f"its spec names the method {method.name!r}, and its entry point {entry.name!r}")
    if not _NAME.fullmatch(entry.name):
        raise ValueError("a method's name has lower-case letters, digits, - and _")
    return replace(method, origin=origin)
