"""YAML files as pydantic models: all problems are reported together, each with its position.

``edgepack.config.yaml_document`` checks the syntax, pydantic in strict mode the content, and
``edgepack.config.problems`` translates pydantic's errors.
"""

import json
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from edgepack.config.empty import empty_parts
from edgepack.config.problems import DataProblem, Location, explain, locate
from edgepack.config.yaml_document import YamlDocument, read
from edgepack.errors import ConfigError, Problem
from edgepack.spec import Spec

S = TypeVar("S", bound=Spec)


@dataclass(frozen=True)
class Checked(Generic[S]):
    """The result of checking a file: the model, or its valid parts if there are problems.

    ``model`` is None if too little is valid; ``removed`` lists the parts that ``model`` lacks.
    """

    document: YamlDocument
    model: S | None
    problems: list[Problem]
    removed: frozenset[Location] = frozenset()

    def result(self) -> S:
        """The model.

        Raises:
            ConfigError: with all problems, if there are any.
        """
        if self.problems or self.model is None:
            raise ConfigError(self.problems)
        return self.model

    def add(self, data_problems: Iterable[DataProblem]) -> None:
        """Add problems of ``model``, except those of parts that already have a problem."""
        for data_problem in data_problems:
            location = _original(data_problem.location, self.removed)
            if not any(_overlap(a, r) for a in data_problem.depends or (location,) for r in self.removed):
                self.problems.append(
                    self.document.problem(
                        DataProblem(location, data_problem.message, on_key=data_problem.on_key)
                    )
                )


def _overlap(one: Location, other: Location) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def read_model(path: Path, model: type[S], *, stand_ins: dict[str, Any] | None = None) -> Checked[S]:
    """Read a YAML file as ``model`` and collect all problems; never raises for the contents of the file.

    ``stand_ins`` replace top-level keys that are missing or invalid, so that the rest can still be checked.
    """
    document, problems = read_and_check(path, model)
    if not document.values:  # not a document: nothing else to check
        return Checked(document, None, problems)
    return validate(document, model, problems=problems, stand_ins=stand_ins)


def read_and_check(path: Path, model: type[Spec]) -> tuple[YamlDocument, list[Problem]]:
    """Read a YAML file and collect all syntax problems and parts without effect."""
    document, problems = read(path)
    parts = empty_parts(document, model)
    whole = {part.location for part in parts if not isinstance(part.location[-1], int)}
    problems += [document.problem(part) for part in parts]
    return replace(document, bad=document.bad | whole), problems


def validate(
    document: YamlDocument,
    model: type[S],
    *,
    problems: list[Problem] | None = None,
    stand_ins: dict[str, Any] | None = None,
) -> Checked[S]:
    """Validate a document as ``model``; returns new problems after the given ``problems``."""
    problems = list(problems or [])
    try:
        return Checked(document, _validate(document.data, model), problems, document.bad)
    except ValidationError as error:
        data_problems = explain(error, document.data, model)
    problems += [document.problem(f) for f in data_problems if f.location not in document.bad]
    saved, removed = _salvage(document.data, model, stand_ins or {})
    echoes = {location for data_problem in data_problems for location in data_problem.depends}
    return Checked(document, saved, problems, removed | document.bad | echoes)


def _validate(data: Any, model: type[S]) -> S:
    # Through JSON, because pydantic's strict mode takes lists for tuples from JSON only.
    return model.model_validate_json(json.dumps(data))


def _salvage(data: Any, model: type[S], stand_ins: dict[str, Any]) -> tuple[S | None, frozenset[Location]]:
    """Remove invalid parts until the rest is valid; None if too little remains."""
    removed: set[Location] = set()
    while True:
        kept = _without(data, removed)
        if isinstance(kept, dict):
            removed |= {(key,) for key in stand_ins if key not in kept}
            kept = {**stand_ins, **kept}
        try:
            return _validate(kept, model), frozenset(removed)
        except ValidationError as error:
            wrong = {_outermost(line, kept) for line in error.errors(include_url=False)}
        wrong = {_original(location, removed) for location in wrong}
        if () in wrong or wrong <= removed:
            return None, frozenset(removed)
        removed |= wrong


def _outermost(line: ErrorDetails, data: Any) -> Location:
    """The part to remove for an error: the invalid part, or the parent of a missing key."""
    missing = line["type"] == "missing"
    location = locate(line["loc"], data, missing=missing)
    return location[:-1] if missing else location


def _original(location: Location, removed: AbstractSet[Location]) -> Location:
    """Convert a location in data with removed parts to one in the whole data."""
    path: Location = ()
    for part in location:
        if isinstance(part, int):
            for index in sorted(p[-1] for p in removed if p[:-1] == path and isinstance(p[-1], int)):
                part += index <= part  # noqa: PLW2901 - the index moves past each removed item
        path += (part,)
    return path


def _without(data: Any, removed: set[Location], at: Location = ()) -> Any:
    if isinstance(data, dict):
        return {k: _without(v, removed, (*at, k)) for k, v in data.items() if (*at, k) not in removed}
    if isinstance(data, list):
        return [_without(v, removed, (*at, i)) for i, v in enumerate(data) if (*at, i) not in removed]
    return data
