"""A run of many groups within a budget: what fits, what was left out, and how to go on."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from benchmarks.kit.nets import Artifacts
from benchmarks.peers.measure import GroupRun, Settings
from benchmarks.peers.prepare import folder_for, record_of
from benchmarks.peers.results import Group, Roofline, load_groups
from benchmarks.peers.roofline import roofline
from edgepack.errors import EdgepackError, UsageError

COLD_S = 1.0  # guess of a cold start, for the plan
LOAD_S = 5.0  # guess of a contestant's load, comparison and warm-up


@dataclass(frozen=True)
class Cell:
    """One group to measure."""

    net: str
    precision: str
    threads: int

    @classmethod
    def of(cls, group: Group) -> "Cell":
        """The cell that a group's results are of."""
        return cls(group.net, group.precision, group.threads)

    def __str__(self) -> str:
        return f"{self.net} {self.precision} {self.threads}t"


@dataclass(frozen=True)
class Left:
    """A group that was not measured."""

    cell: Cell
    reason: str


def cells(nets: Sequence[str], precisions: Sequence[str], threads: Sequence[int]) -> list[Cell]:
    """In the order of measuring: all nets at one precision and thread count before the next."""
    return [Cell(net, precision, count) for count, precision, net in product(threads, precisions, nets)]


def refuse_to_drop(results: Path, wanted: Sequence[Cell], peers: Sequence[str]) -> None:
    """See to it that no group loses contestants by being measured again without them.

    Raises:
        UsageError: One would.
    """
    for group in load_groups(results):
        lost = sorted(set(group.entries) - set(peers))
        if Cell.of(group) in wanted and lost:
            raise UsageError(
                f"the results of {', '.join(lost)} would be lost",
                where=group.key,
                why="a group is replaced as a whole: ratios are of contestants that ran side by side",
                next="name them in --peers too, keep this run apart with --out DIR, or drop them with --replace",
            )


def estimate(settings: Settings, peers: int, earlier: Group | None) -> float:
    """Seconds that measuring a group takes, without preparing."""
    if earlier is not None and set(earlier.plan.items()) == set(vars(settings.plan).items()):
        prepared = sum(
            entry.prepare_seconds or 0.0 for entry in earlier.entries.values() if not entry.prepared_before
        )
        return max(5.0, earlier.seconds - prepared)
    return settings.plan.seconds + peers * (LOAD_S + settings.colds * COLD_S)


def run(
    settings: Settings,
    wanted: Sequence[Cell],
    peers: Sequence[str],
    results: Path,
    *,
    minutes: float,
    artifacts: Callable[[str], Artifacts],
) -> list[Left]:
    """Measure the groups that fit, each saved as soon as it is done; those left out, with the reason."""
    end = time.monotonic() + 60 * minutes
    earlier = {Cell.of(group): group for group in load_groups(results)}
    needs = {cell: estimate(settings, len(peers), earlier.get(cell)) for cell in wanted}
    _say_plan(settings, needs, peers, minutes)
    left = []
    guessed = took = 0.0  # of the groups so far, in seconds of measuring: what the guesses are worth
    for cell in wanted:
        remaining = end - time.monotonic()
        need = needs[cell] * (took / guessed if guessed else 1.0)
        if remaining < need:
            reason = f"{remaining / 60:.1f} of {minutes:g} minutes were left, it needs about {need / 60:.1f}"
            left.append(Left(cell, reason))
            continue
        settings.say(f"{cell}: {remaining / 60:.1f} minutes left")
        try:
            made = artifacts(cell.net)
        except EdgepackError as error:
            left.append(Left(cell, error.render()))
            continue
        group = GroupRun(settings, made, peers, cell.precision, cell.threads)
        group.prepare(end - need)
        start = time.monotonic()
        measured = group.measure(_roofline(settings, made, cell))
        guessed, took = guessed + needs[cell], took + time.monotonic() - start
        path = measured.save_in(results)
        kept = sum(block.discarded is None for block in measured.blocks)
        settings.say(f"  {kept} of {len(measured.blocks)} blocks kept, {measured.seconds:.0f} s: {path.name}")
    return left


def prepare(
    settings: Settings,
    wanted: Sequence[Cell],
    peers: Sequence[str],
    *,
    minutes: float,
    artifacts: Callable[[str], Artifacts],
) -> list[Left]:
    """Prepare all groups and measure none; those for which no time was left, with the reason."""
    end = time.monotonic() + 60 * minutes
    left = []
    for cell in wanted:
        settings.say(f"{cell}: {(end - time.monotonic()) / 60:.1f} minutes left")
        if time.monotonic() > end:
            left.append(Left(cell, f"the {minutes:g} minutes were over"))
            continue
        try:
            GroupRun(settings, artifacts(cell.net), peers, cell.precision, cell.threads).prepare(end)
        except EdgepackError as error:
            left.append(Left(cell, error.render()))
    return left


def _roofline(settings: Settings, made: Artifacts, cell: Cell) -> Roofline | None:
    limits = settings.limits.get(cell.threads)
    peak = None if limits is None else limits[cell.precision]
    if peak is None:
        return None
    return roofline(
        made.onnx,
        made.macs,
        cell.precision,
        peak_gops=peak["peak"],
        bandwidth_gbs=limits["read"]["peak"],
        cache_bytes=settings.machine.get("cache_bytes", 0),
    )


def _say_plan(settings: Settings, needs: dict[Cell, float], peers: Sequence[str], minutes: float) -> None:
    total, fit = 0.0, 0
    for seconds in needs.values():
        total += seconds
        fit += total <= 60 * minutes
    settings.say(
        f"{len(needs)} groups, about {total / 60:.0f} minutes of measuring;"
        f" {fit} fit into {minutes:g} minutes once everything is prepared"
    )
    folders = {
        folder_for(name, contestant, cell.net, precision=cell.precision, threads=cell.threads)
        for cell in needs
        for name, contestant in settings.registry.contestants.items()
        if name in peers and cell.precision in contestant.precisions
    }
    new = sum(settings.fresh or not record_of(folder).is_file() for folder in folders)
    if new:
        settings.say(
            f"{new} of {len(folders)} preparations are not done yet; each may take up to"
            f" {settings.prepare_minutes:g} of these minutes, and fewer groups will fit"
        )


def command_for(left: Sequence[Left], peers: Sequence[str]) -> str:
    """What measures the groups that were left out (and, between them, no others of the same kinds)."""
    nets = ",".join(dict.fromkeys(one.cell.net for one in left))
    precisions = ",".join(dict.fromkeys(one.cell.precision for one in left))
    threads = ",".join(str(count) for count in dict.fromkeys(one.cell.threads for one in left))
    return (
        f"python -m benchmarks.peers --nets {nets} --precisions {precisions} --threads {threads}"
        f" --peers {','.join(peers)} --missing"
    )
