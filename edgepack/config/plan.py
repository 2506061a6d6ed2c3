"""A recipe and its targets become a plan. Everything wrong in YAML ends here, before torch or tvm is imported."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, overload

from edgepack.base.files import sha256_json
from edgepack.config.check import check
from edgepack.config.recipe import Recipe, Tune
from edgepack.config.recipe_file import load_recipe
from edgepack.config.target import Target, load_target
from edgepack.errors import ConfigError, UsageError
from edgepack.spec import Spec


@dataclass(frozen=True)
class Row:
    """One target of the run, and the device that stands for it."""

    target: Target
    device: str | None
    tune: Tune


@dataclass(frozen=True)
class Plan:
    """A recipe with its targets resolved; nothing in it can be a typing mistake any more."""

    recipe: Recipe
    path: Path
    rows: tuple[Row, ...]

    @property
    def base(self) -> Path:
        """The folder that the recipe's paths are relative to."""
        return self.path.parent

    @property
    def digest(self) -> str:
        """The sha256 of the recipe as parsed: comments and key order do not count."""
        return sha256_json(self.recipe.model_dump(mode="json"))


def make_plan(path: Path, *, only: Sequence[str] = ()) -> Plan:
    """Read a recipe and resolve its targets.

    Args:
        path: the recipe.
        only: target names to keep; empty keeps all.

    Raises:
        ConfigError: with every mistake in the recipe, at once.
        UsageError: a name in ``only`` is not a target of this recipe.
    """
    problems = check(path)
    if problems:
        raise ConfigError(problems, next=f"mend them, then: edgepack check {path}")
    recipe = load_recipe(path)
    names = [entry.target for entry in recipe.targets]
    for name in only:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has: {', '.join(names)}"
            raise UsageError(f"the recipe has no target {name}", where=str(path), next=hint)
    rows = tuple(
        Row(load_target(entry.target), entry.device, entry.tune or recipe.tune)
        for entry in recipe.targets
        if not only or entry.target in only
    )
    return Plan(recipe, path, rows)


@overload
def dump(spec: Spec) -> dict[str, Any]: ...
@overload
def dump(spec: None) -> None: ...
def dump(spec: Spec | None) -> dict[str, Any] | None:
    """A spec as JSON values, for cache keys and manifests."""
    return None if spec is None else spec.model_dump(mode="json")
