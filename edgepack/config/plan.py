"""From a recipe to a plan, or a list of problems, in one pass, without importing torch or TVM.

The steps are: the file's form and keys (``yaml_model``), contradictions (``consistency``), the files it names (``named_files``), the targets and devices it names (``rows``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Self

from edgepack.base.filekind import wrong_kind
from edgepack.base.files import sha256_json
from edgepack.base.text import suggestion
from edgepack.config.consistency import contradictions
from edgepack.config.device import Devices
from edgepack.config.digests import require_sums, sum_problems
from edgepack.config.fit import fit_targets
from edgepack.config.model_inputs import input_problems
from edgepack.config.named_files import file_problems
from edgepack.config.recipe import Recipe, Tune
from edgepack.config.rows import Running, no_boards, resolve
from edgepack.config.target import Target
from edgepack.config.yaml_model import read_model
from edgepack.errors import ConfigError, InputError, Problem, UsageError

_STAND_INS = {"edgepack": 1, "name": "unnamed", "model": {}, "targets": [{"target": "unnamed"}]}


@dataclass(frozen=True)
class TargetPlan:
    """One target of the run, with its devices and tuning budget."""

    target: Target
    devices: tuple[str, ...]
    tune: Tune


@dataclass(frozen=True)
class Plan:
    """A valid recipe with its targets and devices resolved.

    ``devices`` is the user's devices.yaml, empty if no target names a device in it.
    """

    recipe: Recipe
    path: Path
    targets: tuple[TargetPlan, ...]
    devices: Devices
    lanes: int = 1
    """Widest vector register of the recipe's targets, also of those left out by :meth:`only`, in float32 elements."""
    float16: bool = False
    """Whether all of them compute in float16."""
    notes: tuple[str, ...] = ()
    """What steps do for which targets, as far as it depends on them."""
    trust: bool = False
    """Whether pickled objects in weights files may be loaded, which runs the code that they name."""

    @property
    def base(self) -> Path:
        """The folder that the recipe's paths are relative to."""
        return self.path.parent

    @property
    def digest(self) -> str:
        """The sha256 of the parsed recipe, independent of comments and key order."""
        return sha256_json(self.recipe.model_dump(mode="json"))

    def only(self, names: Sequence[str]) -> Self:
        """The plan with only these targets; with all targets if ``names`` is empty.

        Raises:
            UsageError: a name is not a target of this recipe.
        """
        known = [row.target.name for row in self.targets]
        for name in names:
            if name not in known:
                hint = suggestion(name, known, otherwise=f"it has: {', '.join(known)}")
                raise UsageError(f"the recipe has no target {name}", where=str(self.path), next=hint)
        return replace(
            self, targets=tuple(row for row in self.targets if not names or row.target.name in names)
        )


@dataclass(frozen=True)
class CheckedRecipe:
    """The result of reading a recipe: all problems, sorted by position, or the plan if there are none."""

    problems: tuple[Problem, ...]
    plan: Plan | None

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of the plan."""
        return () if self.plan is None else self.plan.notes


def examine(path: Path, *, running: Running = no_boards) -> CheckedRecipe:
    """Read a recipe and the files it names, each once. Paths in the recipe are relative to its folder.

    ``running`` returns the running virtual boards; it is called if a device is not in devices.yaml.

    Raises:
        InputError: the file is a model or another file that is no text.
        IntegrityError: a file has another sha256 than the recipe says.
    """
    require_recipe(path)
    checked = read_model(path, Recipe, stand_ins=_STAND_INS)
    recipe = checked.model
    if recipe is None:
        return CheckedRecipe(tuple(sorted(set(checked.problems))), None)
    checked.add(contradictions(recipe))
    checked.add(file_problems(recipe, path.parent))
    if not checked.problems:
        require_sums(recipe, path.parent, checked.document.place)
    checked.add(sum_problems(recipe.model, path.parent))
    checked.add(input_problems(recipe, path.parent))
    rows = resolve(recipe, running)
    checked.add(rows.data_problems)
    known = [target for target in rows.targets if target is not None]
    fit = fit_targets(recipe, known)
    checked.add(fit.problems)
    problems = tuple(sorted({*checked.problems, *rows.problems}))
    if problems:
        return CheckedRecipe(problems, None)
    targets = tuple(
        TargetPlan(target, entry.boards, entry.tune or recipe.tune)
        for entry, target in zip(recipe.targets, rows.targets, strict=True)
        if target is not None
    )
    lanes = max(target.lanes for target in known)
    halves = all(target.computes_in("float16") for target in known)
    plan = Plan(recipe, path, targets, rows.devices, lanes, float16=halves, notes=fit.notes)
    return CheckedRecipe((), plan)


def require_recipe(path: Path) -> None:
    """Refuse a file that is of another kind, such as a model.

    Raises:
        InputError: what the file is, and the command for it.
    """
    found = None if path.suffix in {".yaml", ".yml"} else wrong_kind(path, "recipe")
    if found is not None and "text file" not in found[0]:
        raise InputError(f"the file is not a recipe: {found[0]}", where=str(path), next=found[1])


def make_plan(
    path: Path, *, only: Sequence[str] = (), running: Running = no_boards, trust: bool = False
) -> Plan:
    """The plan of a recipe.

    Args:
        path: the recipe.
        only: target names to keep; empty keeps all.
        running: as in :func:`examine`.
        trust: as in :class:`Plan`.

    Raises:
        ConfigError: with every problem in the recipe.
        IntegrityError: a file has another sha256 than the recipe says.
        UsageError: a name in ``only`` is not a target of this recipe.
    """
    examined = examine(path, running=running)
    if examined.plan is None:
        raise ConfigError(
            list(examined.problems), next=f"correct them, then: edgepack check {quote(str(path))}"
        )
    return replace(examined.plan.only(only), trust=trust)
