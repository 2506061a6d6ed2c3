"""A recipe and its targets become a plan. Everything wrong in YAML ends here, before torch or tvm is imported."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepack.base.files import sha256_json
from edgepack.base.text import suggestion
from edgepack.config.check import check
from edgepack.config.recipe import Recipe, Tune
from edgepack.config.recipe_file import load_recipe
from edgepack.config.target import Target, load_target
from edgepack.errors import ConfigError, UsageError


@dataclass(frozen=True)
class TargetPlan:
    """One target of the run, the devices that stand for it, and its tuning budget."""

    target: Target
    devices: tuple[str, ...]
    tune: Tune


@dataclass(frozen=True)
class Plan:
    """A recipe with its targets resolved; nothing in it can be a typing mistake any more."""

    recipe: Recipe
    path: Path
    targets: tuple[TargetPlan, ...]

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
        raise ConfigError(problems, next=f"correct them, then: edgepack check {path}")
    recipe = load_recipe(path)
    names = [entry.target for entry in recipe.targets]
    for name in only:
        if name not in names:
            hint = suggestion(name, names, otherwise=f"it has: {', '.join(names)}")
            raise UsageError(f"the recipe has no target {name}", where=str(path), next=hint)
    targets = tuple(
        TargetPlan(load_target(entry.target), entry.boards, entry.tune or recipe.tune)
        for entry in recipe.targets
        if not only or entry.target in only
    )
    return Plan(recipe, path, targets)
