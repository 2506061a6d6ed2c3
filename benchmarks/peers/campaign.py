"""Measure many groups within a time budget: what fits, what was left out, and how to resume."""

import time
from collections.abc import Collection, Sequence
from itertools import accumulate, product
from pathlib import Path

from benchmarks.kit.nets import artifacts
from benchmarks.peers.measure import GroupRun, Settings
from benchmarks.peers.prepare import folder_for, record_of
from benchmarks.peers.results import Cell, Group, load_groups
from edgepack.errors import EdgepackError, UsageError

COLD_S = 1.0  # estimate of a cold start, for the plan
LOAD_S = 5.0  # estimate of a contestant's load, comparison and warm-up


def cells(nets: Sequence[str], precisions: Sequence[str], threads: Sequence[int]) -> list[Cell]:
    """Return cells in measuring order: all nets at one precision and thread count before the next."""
    return [Cell(net, precision, count) for count, precision, net in product(threads, precisions, nets)]


def refuse_to_drop(results: Path, wanted: Sequence[Cell], peers: Sequence[str]) -> None:
    """Check that no group loses contestants by being measured again without them.

    Raises:
        UsageError: A group would.
    """
    for group in load_groups(results):
        lost = sorted(set(group.entries) - set(peers))
        if group.cell in wanted and lost:
            raise UsageError(
                f"the results of {', '.join(lost)} would be lost",
                where=group.cell.key,
                why="a group is replaced as a whole: ratios compare contestants that ran side by side",
                next="add them to --peers, write to another folder with --out DIR, or drop them with --replace",
            )


def estimate(settings: Settings, peers: int, earlier: Group | None) -> float:
    """Estimate the seconds for measuring a group, without preparing."""
    if earlier is not None and earlier.plan == vars(settings.plan):
        new = [entry for entry in earlier.entries.values() if not entry.prepared_before]
        return max(5.0, earlier.seconds - sum(entry.prepare_seconds or 0.0 for entry in new))
    return settings.plan.seconds + peers * (LOAD_S + settings.colds * COLD_S)


def run(
    settings: Settings,
    wanted: Sequence[Cell],
    peers: Sequence[str],
    results: Path,
    *,
    minutes: float,
) -> dict[Cell, str]:
    """Measure the groups that fit, each saved when complete; returns those left out, with the reason.

    ``results`` has a folder per kind of CPU.
    """
    end = time.monotonic() + 60 * minutes
    earlier = {group.cell: group for group in load_groups(results / settings.machine["kind"])}
    needs = {cell: estimate(settings, len(peers), earlier.get(cell)) for cell in wanted}
    _say_plan(settings, needs, peers, minutes)
    left = {}
    guessed = took = 0.0  # estimated and actual seconds of the groups so far: the estimates' accuracy
    for cell in wanted:
        remaining = end - time.monotonic()
        need = needs[cell] * (took / guessed if guessed else 1.0)
        if remaining < need:
            fits = f"{remaining / 60:.1f} of {minutes:g} minutes were left"
            left[cell] = f"{fits}, but it needs about {need / 60:.1f}"
            continue
        settings.say(f"{cell.key}: {remaining / 60:.1f} minutes left")
        try:
            group = GroupRun(settings, artifacts(cell.net), peers, cell)
        except EdgepackError as error:
            left[cell] = error.render()
            continue
        group.prepare(end - need)
        start = time.monotonic()
        measured = group.measure()
        guessed, took = guessed + needs[cell], took + time.monotonic() - start
        path = measured.save_in(results)
        kept = sum(block.discarded is None for block in measured.blocks)
        settings.say(f"  {kept} of {len(measured.blocks)} blocks kept, {measured.seconds:.0f} s: {path.name}")
    return left


def prepare(
    settings: Settings, wanted: Sequence[Cell], peers: Sequence[str], *, minutes: float
) -> dict[Cell, str]:
    """Prepare all groups without measuring; returns those for which there was no time, with the reason."""
    end = time.monotonic() + 60 * minutes
    left = {}
    for cell in wanted:
        settings.say(f"{cell.key}: {(end - time.monotonic()) / 60:.1f} minutes left")
        if time.monotonic() > end:
            left[cell] = f"the {minutes:g} minutes were used up"
            continue
        try:
            GroupRun(settings, artifacts(cell.net), peers, cell).prepare(end)
        except EdgepackError as error:
            left[cell] = error.render()
    return left


def _say_plan(settings: Settings, needs: dict[Cell, float], peers: Sequence[str], minutes: float) -> None:
    ends = list(accumulate(needs.values(), initial=0.0))
    fit = sum(end <= 60 * minutes for end in ends[1:])
    settings.say(
        f"{len(needs)} groups, about {ends[-1] / 60:.0f} minutes of measuring;"
        f" {fit} fit into {minutes:g} minutes once everything is prepared"
    )
    folders = {
        folder_for(name, contestant, cell)
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


def command_for(left: Collection[Cell], peers: Sequence[str]) -> str:
    """Return a command that measures the groups that were left out (and no others of the same kinds)."""
    nets, precisions, threads = (
        ",".join(dict.fromkeys(str(getattr(cell, part)) for cell in left))
        for part in ("net", "precision", "threads")
    )
    return (
        f"python -m benchmarks.peers --nets {nets} --precisions {precisions} --threads {threads}"
        f" --peers {','.join(peers)} --missing"
    )
