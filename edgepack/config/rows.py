"""Look up the targets and devices of a recipe, and check that each device can run code for its target."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from edgepack.base.text import near_miss
from edgepack.config.device import VIRTUAL_KINDS, VIRTUAL_PREFIX, Devices, examine_devices
from edgepack.config.problems import DataProblem, Location
from edgepack.config.recipe import Recipe, TargetEntry
from edgepack.config.target import Target, Targets
from edgepack.errors import Problem


@dataclass(frozen=True)
class Rows:
    """The targets and devices of a recipe.

    Attributes:
        targets: one per row; None if there is no such target or its file has problems.
        devices: the user's devices; empty if no row names one.
        data_problems: problems in the recipe.
        problems: problems in the target and device files.
    """

    targets: tuple[Target | None, ...]
    devices: Devices
    data_problems: tuple[DataProblem, ...]
    problems: tuple[Problem, ...]


Running = Callable[[], Mapping[str, str]]
"""Returns the target of each running virtual board by its name."""


def no_boards() -> dict[str, str]:
    """No running boards: for callers that cannot look them up."""
    return {}


def resolve(recipe: Recipe, running: Running = no_boards) -> Rows:
    """Look up the targets and devices of a recipe; each file is read once."""
    lookup = _Lookup(recipe, running)
    targets = tuple(lookup.row(index, entry) for index, entry in enumerate(recipe.targets))
    devices = lookup.devices or Devices(edgepack=1)
    return Rows(targets, devices, tuple(lookup.data_problems), tuple(lookup.problems))


class _Lookup:
    def __init__(self, recipe: Recipe, running: Running) -> None:
        self._running = cache(running)  # asked only for a name that devices.yaml lacks
        self._threads = recipe.bench.threads
        self._targets = Targets()
        self.data_problems: list[DataProblem] = []
        self.problems: list[Problem] = []
        self.devices: Devices | None = Devices(edgepack=1)
        if any(not name.startswith(VIRTUAL_PREFIX) for entry in recipe.targets for name in entry.boards):
            checked = examine_devices()
            self.devices = checked.model
            self.problems += checked.problems

    def row(self, index: int, entry: TargetEntry) -> Target | None:
        here: Location = ("targets", index)
        target = None
        if entry.target in self._targets.names:
            target = self._target(entry.target)
        else:
            self.data_problems.append(DataProblem((*here, "target"), self._targets.unknown(entry.target)))
        if target is not None and self._threads > target.cpu.cores:
            message = f"{self._threads} threads, but {target.name} has {target.cpu.cores} cores"
            self.data_problems.append(
                DataProblem(("bench", "threads"), message, depends=((*here, "target"),))
            )
        if entry.device is not None:
            self.data_problems += self._device((*here, "device"), entry.device, target)
        for number, name in enumerate(entry.devices):
            self.data_problems += self._device((*here, "devices", number), name, target)
        return target

    def _target(self, name: str) -> Target | None:
        checked = self._targets.examine(name)
        self.problems += checked.problems
        return None if checked.problems else checked.model

    def _device(self, here: Location, name: str, target: Target | None) -> Iterator[DataProblem]:
        if name.startswith(VIRTUAL_PREFIX):
            board = name.removeprefix(VIRTUAL_PREFIX)
            if board not in VIRTUAL_KINDS:
                yield DataProblem(here, f"unknown virtual board `{board}`{near_miss(board, VIRTUAL_KINDS)}")
                return
        elif self.devices is None:
            return  # devices.yaml is not valid enough to be used; its problems are reported
        elif name in self.devices.devices or name in self._running():
            own = self.devices.devices.get(name)
            board = self._running()[name] if own is None else own.target
            if board not in self._targets.names:
                yield DataProblem(
                    here, f"device `{name}` has target `{board}`: {self._targets.unknown(board)}"
                )
                return
        else:
            nothing = "; devices.yaml has no devices; virtual:rpi4 needs no hardware"
            hint = near_miss(name, {*self.devices.devices, *self._running()}) or nothing
            yield DataProblem(here, f"unknown device `{name}`{hint}")
            return
        has = self._target(board)
        problem = misfit(f"`{name}`", has, target) if has and target else None
        if problem is not None:
            hint = "; remove `device` to stop at the bundle" if target and target.gpu else ""
            yield DataProblem(here, problem + hint)


def misfit(board: str, has: Target, target: Target) -> str | None:
    """Why code for ``target`` cannot run on ``board`` with the target ``has``; None if it can."""
    if has.abi.arch != target.abi.arch:
        return f"{board} is {has.abi.arch}, but {target.name} is for {target.abi.arch}"
    if target.gpu is not None and (has.gpu is None or has.gpu.arch != target.gpu.arch):
        return f"{target.name} needs a GPU with {target.gpu.arch}, but {board} has {has.gpu.arch if has.gpu else 'none'}"
    lacks = sorted(set(target.cpu.features) - set(has.cpu.features))
    return f"{board} lacks {', '.join(lacks)}, which {target.name} uses" if lacks else None
