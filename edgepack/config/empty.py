"""Empty lists and blocks, keys without a value, and duplicate names in lists."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from edgepack.config.problems import DataProblem, Location, annotations_at, flatten, is_model
from edgepack.config.yaml_document import YamlDocument
from edgepack.spec import MAY_BE_EMPTY


def empty_parts(document: YamlDocument, model: type[BaseModel]) -> list[DataProblem]:
    """All parts of a file that have no effect, and were probably meant to have one."""
    partial = isinstance(document.data, dict) and "extends" in document.data
    return list(_parts(_Context(document, model, partial=partial), document.data, ()))


@dataclass(frozen=True)
class _Context:
    document: YamlDocument
    model: type[BaseModel]
    partial: bool  # extends another file, so no key is required

    def fields(self, at: Location, key: str) -> list[FieldInfo]:
        around = [a for a in annotations_at(self.model, self.document.data, at) if is_model(a)]
        return [a.model_fields[key] for a in around if key in a.model_fields]

    def empty(self, info: FieldInfo, here: Location, value: Any) -> DataProblem | None:
        if MAY_BE_EMPTY in info.metadata or (info.is_required() and not self.partial):
            return None
        key, types = here[-1], flatten(info.annotation)
        if value is None and here in self.document.blank and type(None) in types:
            return DataProblem(here, f"`{key}` has no value; set one, or remove the key", on_key=True)
        if value == [] and any(get_origin(t) is tuple for t in types):
            return DataProblem(here, f"`{key}` is an empty list; remove it if there is nothing to list")
        if value == {} and any(is_model(t) and (self.partial or not _requires(t)) for t in types):
            return DataProblem(here, f"`{key}` is an empty block; remove it if there is nothing to set")
        return None


def _parts(context: _Context, node: Any, at: Location) -> Iterator[DataProblem]:
    for key, value in _items(node):
        here = (*at, key)
        fields = context.fields(at, key) if isinstance(key, str) else []
        empty = (context.empty(info, here, value) for info in fields)
        yield from dict.fromkeys(problem for problem in empty if problem is not None)
        if fields and isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, str) and item in value[:index]:
                    yield DataProblem((*here, index), f"duplicate `{item}` in `{key}`")
        yield from _parts(context, value, here)


def _items(node: Any) -> Iterable[tuple[str | int, Any]]:
    if isinstance(node, dict):
        return node.items()
    return enumerate(node) if isinstance(node, list) else ()


def _requires(model: type[BaseModel]) -> bool:
    """Whether pydantic will report missing keys."""
    return any(info.is_required() for info in model.model_fields.values())
