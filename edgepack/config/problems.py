"""Translate pydantic's errors to messages with a location, and suggestions for misspelt names."""

import types
import typing
from collections import defaultdict
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from edgepack.base.text import did_you_mean, near_miss, nearest
from edgepack.compression.registry import REGISTRY
from edgepack.spec import PATTERNS

Location = tuple[str | int, ...]

_NUMBER = "a number"
_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": _NUMBER,
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "none_required": "nothing",
    "finite_number": "a finite number",
}
_BOUNDS = {
    "greater_than": ("gt", "above {}"),
    "greater_than_equal": ("ge", "at least {}"),
    "less_than": ("lt", "below {}"),
    "less_than_equal": ("le", "at most {}"),
}
_TEXT_BOOLS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


@dataclass(frozen=True)
class DataProblem:
    """A problem at a location of the data: ``on_key`` if the key is wrong rather than its value.

    ``depends`` lists the locations that it depends on, by default its own: it is not reported if one of them has a problem
    already, since it would only be a consequence.
    """

    location: Location
    message: str
    on_key: bool = False
    depends: tuple[Location, ...] = ()


def locate(loc: Location, data: Any, *, missing: bool) -> Location:
    """A pydantic location as a location in the data: union tags and the like are removed."""
    path: list[str | int] = []
    node = data
    for depth, part in enumerate(loc):
        in_mapping = isinstance(node, dict) and part in node
        in_list = isinstance(node, list) and isinstance(part, int) and part < len(node)
        if in_mapping or in_list:
            path.append(part)
            node = node[part]
        elif missing and depth == len(loc) - 1:
            path.append(part)
    return tuple(path)


def explain(error: ValidationError, data: Any, model: type[BaseModel]) -> list[DataProblem]:
    """The problems of a validation of ``data`` as ``model``."""
    grouped: dict[Location, list[ErrorDetails]] = defaultdict(list)
    for line in error.errors(include_url=False):
        grouped[locate(line["loc"], data, missing=line["type"] == "missing")].append(line)
    problems: list[DataProblem] = []
    meant: set[Location] = set()  # missing keys that are present but misspelt
    for location, lines in grouped.items():
        if any(line["type"] == "extra_forbidden" for line in lines):
            key = str(location[-1])
            allowed = allowed_keys(model, data, location[:-1])
            near = nearest(key, allowed)
            misspelt = () if near is None else ((*location[:-1], near),)
            hint = near_miss(key, allowed, say="allowed here:")
            problems.append(
                DataProblem(location, f"unknown key `{key}`{hint}", on_key=True, depends=misspelt)
            )
            meant |= set(misspelt)
    for location, lines in grouped.items():
        kinds = {line["type"] for line in lines}
        if kinds == {"too_short"} and len(_at(data, location)) >= lines[0]["ctx"]["min_length"]:
            continue  # pydantic counts only the items without problems, and these are listed
        if kinds == {"missing"}:
            if location not in meant:
                problems.append(_missing(location, data, model))
        elif "union_tag_not_found" in kinds or "union_tag_invalid" in kinds:
            problems.append(_tag(location, lines[0], _at(data, location)))
        elif "extra_forbidden" not in kinds:
            problems.append(_value(location, lines, _at(data, location), model, data))
    return problems


def _at(data: Any, location: Location) -> Any:
    for part in location:
        data = data[part]
    return data


def _missing(location: Location, data: Any, model: type[BaseModel]) -> DataProblem:
    parent, last = location[:-1], location[-1]
    if isinstance(last, int):
        return DataProblem(parent, f"item {last + 1} is missing")
    inside = f" in `{parent[-1]}`" if parent and isinstance(parent[-1], str) else ""
    about = next((d for a in annotations_at(model, data, parent) if (d := _description(a, last))), "")
    return DataProblem(parent, f"missing key `{last}`{inside}{about}", on_key=bool(parent))


def _description(annotation: Any, key: str) -> str:
    info = annotation.model_fields.get(key) if is_model(annotation) else None
    return f": {info.description}" if info is not None and info.description else ""


def _tag(location: Location, line: ErrorDetails, value: Any) -> DataProblem:
    context = line.get("ctx", {})
    name = str(context["discriminator"]).strip("'")
    if line["type"] == "union_tag_invalid":
        tag = str(context["tag"])
        if name == "method" and tag in REGISTRY.unusable:
            return DataProblem((*location, name), f"method `{tag}` cannot be used: {REGISTRY.unusable[tag]}")
        tags = [t.strip("'") for t in str(context["expected_tags"]).split(", ")]
        return DataProblem((*location, name), f"unknown {name} `{tag}`{near_miss(tag, tags)}")
    near = nearest(name, value if isinstance(value, dict) else [])
    if near is not None:
        return DataProblem((*location, near), f"unknown key `{near}`{did_you_mean(name)}", on_key=True)
    if name in value:
        return DataProblem((*location, name), f"expected the name of a {name}, got {_got(value[name])}")
    return DataProblem(location, f"missing key `{name}`")


def _value(
    location: Location, lines: list[ErrorDetails], value: Any, model: type[BaseModel], data: Any
) -> DataProblem:
    if location == ("edgepack",):
        version = next(iter(_options(annotations_at(model, data, location))), 1)
        return DataProblem(
            location, f"expected {version}, the version of this file's schema, got {_got(value)}"
        )
    if location[-2:-1] == ("shape",) and isinstance(value, str):
        axis, given = location[-1], _at(data, location[:-2])
        name = f" of input `{given['name']}`" if "name" in given else ""
        return DataProblem(location, f"axis {axis}{name} is {value!r}: write its size")
    options = _options(annotations_at(model, data, location))
    expected = list(dict.fromkeys(_expected(line, options) for line in lines))
    message = f"expected {' or '.join(expected)}, got {_got(value)}"
    return DataProblem(location, message + _hint(lines, value, options))


def _expected(line: ErrorDetails, options: list[Any]) -> str:
    kind, context = line["type"], line.get("ctx", {})
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"{_NUMBER} {words.format(_plain(context[key]))}"
    if kind == "literal_error":
        return ("one of " if len(options) > 1 else "") + ", ".join(str(o) for o in options)
    if kind == "string_pattern_mismatch":
        return PATTERNS.get(str(context["pattern"]), f"text that matches {context['pattern']}")
    if kind == "too_short":
        return f"at least {context['min_length']} item{'s' if context['min_length'] != 1 else ''}"
    if kind == "too_long":
        return f"at most {context['max_length']} items"
    # A kind that no field raises today: use pydantic's own message.
    return line["msg"]


def _hint(lines: list[ErrorDetails], value: Any, options: list[Any]) -> str:
    kinds = {line["type"] for line in lines}
    if not isinstance(value, str):
        scalar = isinstance(value, (int, float))
        return "; quote it if it is meant as text" if kinds == {"string_type"} and scalar else ""
    if "literal_error" in kinds:
        return did_you_mean(nearest(value, [str(o) for o in options]))
    if "bool_type" in kinds and value.lower() in _TEXT_BOOLS:
        return f"; write {_TEXT_BOOLS[value.lower()]}"
    if kinds & {"int_type", "float_type"}:
        plain = value.replace("_", "").lstrip("0")
        if plain.isdecimal():
            return f"; write {plain}, unquoted and without leading zeros"
    return ""


def _plain(bound: Any) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


def _got(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        shown = value if len(value) <= 40 else f"{value[:37]}..."  # noqa: PLR2004 - keeps the message on a line
        return f"the text {shown!r}"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    return "a mapping"


def allowed_keys(model: type[BaseModel], data: Any, location: Location) -> list[str]:
    """The valid keys of a mapping at ``location``."""
    return [k for a in annotations_at(model, data, location) if is_model(a) for k in a.model_fields]


def annotations_at(model: type[BaseModel], data: Any, location: Location) -> list[Any]:
    """The types of a value at ``location``; a tagged union is narrowed by the tag in the data."""
    types_here = flatten(model)
    node = data
    for part in location:
        types_here = [t for outer in _narrow(types_here, node) for t in _inside(outer, part)]
        present = isinstance(node, dict) or (
            isinstance(node, list) and isinstance(part, int) and part < len(node)
        )
        node = node.get(part) if isinstance(node, dict) else node[part] if present else None
    return _narrow(types_here, node)


def _narrow(candidates: list[Any], node: Any) -> list[Any]:
    if not isinstance(node, dict) or len(candidates) < 2:  # noqa: PLR2004 - nothing to choose from
        return candidates
    fitting = [c for c in candidates if is_model(c) and _tag_fits(c, node)]
    return fitting or candidates


def _tag_fits(model: type[BaseModel], node: dict[str, Any]) -> bool:
    literals = {
        name: get_args(info.annotation)
        for name, info in model.model_fields.items()
        if get_origin(info.annotation) is Literal and info.is_required()
    }
    return all(node.get(name) in values for name, values in literals.items())


def _inside(annotation: Any, part: str | int) -> list[Any]:
    if is_model(annotation):
        info = annotation.model_fields.get(part)
        return [] if info is None else flatten(info.annotation)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is tuple and isinstance(part, int):
        chosen = args[0] if args[-1] is Ellipsis else args[part] if part < len(args) else None
        return [] if chosen is None else flatten(chosen)
    return flatten(args[1]) if origin is dict else []


def flatten(annotation: Any) -> list[Any]:
    """The members of a union, without annotations."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return flatten(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [t for a in get_args(annotation) for t in flatten(a)]
    return [annotation]


def _options(annotations: list[Any]) -> list[Any]:
    return [o for a in annotations if get_origin(a) is Literal for o in typing.get_args(a)]


def is_model(annotation: Any) -> bool:
    """Whether a type is a pydantic model."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
