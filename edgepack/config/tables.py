"""Markdown tables for the documentation: keys of recipes, targets and devices, and compression methods."""

import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from edgepack.compression import Method
from edgepack.errors import UsageError
from edgepack.spec import PATTERNS


def methods_table(methods: Iterable[Method[Any]]) -> str:
    """The Markdown table of compression methods."""
    level = {"torch": "the torch module", "onnx": "the .onnx file"}
    rows = [
        f"| `{method.name}` | {' or '.join(map(level.__getitem__, method.levels))} | {method.origin} | {method.summary} |\n"
        for method in methods
    ]
    return "".join(("| method | changes | from | what it does |\n", "|---|---|---|---|\n", *rows))


def reachable(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The model and those of its fields, each once, in order."""
    found = [model]
    for field in model.model_fields.values():
        found += [m for inner in _models(field.annotation) for m in reachable(inner)]
    return list(dict.fromkeys(found))


def table(model: type[BaseModel]) -> str:
    """The Markdown table of a model's keys."""
    rows = ["| key | value | default | |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if field.is_required():
            default = "required"
        elif isinstance(field.default, BaseModel) and field.default.model_fields_set:
            given = field.default.model_dump(include=field.default.model_fields_set).items()
            default = f"`{{{', '.join(f'{key}: {_yaml(value)}' for key, value in given)}}}`"
        elif field.default is PydanticUndefined or isinstance(field.default, BaseModel):
            default = "its own defaults"
        else:
            default = f"`{_yaml(field.default)}`" if field.default is not None else ""
        rows.append(
            f"| `{name}` | {_words(field.annotation, field.metadata)} | {default} | {field.description or ''} |"
        )
    return "\n".join(rows) + "\n"


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_yaml(v) for v in value)}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in get_args(annotation) for m in _models(a)]


def _words(annotation: Any, metadata: list[Any]) -> str:
    """A type as text, with its bounds."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [m for a in args[1:] for m in getattr(a, "metadata", [a])]
        return _words(args[0], inner)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(a, metadata) for a in args if a is not type(None))
    if origin is Literal:
        return ", ".join(f"`{a}`" for a in args)
    if origin is tuple:
        return f"list of {len(args)}" if Ellipsis not in args else f"list of {_words(args[0], [])}"
    if origin is dict:
        return f"name: {_words(args[1], [])}" if args[1] is not Any else "mapping"
    if _models(annotation):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    pattern = next((m.pattern for m in metadata if getattr(m, "pattern", None)), None)
    plain = {str: "text", int: "whole number", float: "number", bool: "true or false"}[annotation]
    return (PATTERNS[pattern] if pattern not in (None, r"\S") else plain) + _bounds(metadata)


def _bounds(metadata: list[Any]) -> str:
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    bounds = (
        (sign, value)
        for m in metadata
        for key, sign in signs.items()
        if (value := getattr(m, key, None)) is not None
    )
    found = [f"{sign} {value if isinstance(value, int) else f'{value:g}'}" for sign, value in bounds]
    return f" {', '.join(found)}" if found else ""


def method_table(name: str) -> str:
    """The options of a compression method as a Markdown table.

    Raises:
        UsageError: the method is unknown or failed to load.
    """
    from edgepack.base.text import suggestion
    from edgepack.compression.registry import METHODS, REGISTRY

    if name in REGISTRY.unusable:
        raise UsageError(f"method {name} is not available", why=REGISTRY.unusable[name])
    if name not in METHODS:
        raise UsageError(
            f"unknown method {name}", next=suggestion(name, METHODS, otherwise="edgepack methods")
        )
    return table(METHODS[name].spec)
