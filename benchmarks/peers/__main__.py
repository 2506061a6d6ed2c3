"""Compare edgepack with its peers: python -m benchmarks.peers [--nets a,b] [--peers x,y] [--minutes M].

Measures the groups that fit into the time and writes them with their page and charts to results/peers/KIND, for this
kind of CPU, and RESULTS.md, all in --out (benchmarks/). Nets, environments and prepared models are cached in edgepack's
cache directory.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.kit import places
from benchmarks.kit.command import above, finish, parse_names, parser, whole
from benchmarks.kit.interleaving import TimingPlan
from benchmarks.kit.machine import commit, summary
from benchmarks.peers import campaign, limits
from benchmarks.peers.contestants import CONTESTANTS
from benchmarks.peers.measure import Settings
from benchmarks.peers.prepare import Contestants
from benchmarks.peers.report import write_report
from benchmarks.peers.results import Cell, load_groups
from edgepack.zoo import NETS

REGISTRY = "benchmarks.peers.contestants:CONTESTANTS"
PRECISIONS = ("fp32", "int8")
_say = partial(print, flush=True)


def options() -> argparse.ArgumentParser:
    words = parser("peers", __doc__)
    add = words.add_argument
    add("--nets", default="", help="names in edgepack.zoo.NETS, comma-separated (default: all)")
    add("--peers", default="", help="contestants, comma-separated (default: all)")
    add("--precisions", default="", help=f"{' or '.join(PRECISIONS)}, comma-separated (default: both)")
    add("--threads", default="1,2", help="numbers of threads, comma-separated (default: %(default)s)")
    add("--minutes", type=above(0), default=120.0, help="time limit of the whole run (default: %(default)g)")
    minutes, trials = Settings.prepare_minutes, Settings.trials
    add(
        "--prepare-minutes",
        type=above(0),
        default=minutes,
        help="time limit for preparing one cell (default: %(default)g)",
    )
    tuning = "tuning trials of contestants that tune (default: %(default)s); 0: edgepack untuned"
    add("--trials", type=whole(0), default=trials, help=tuning)
    add(
        "--rounds",
        type=whole(1),
        default=TimingPlan.rounds,
        help="ABBA rounds per group (default: %(default)s)",
    )
    timing = "seconds for timing a group; slow contestants run fewer rounds (default: %(default)g)"
    add("--group-seconds", type=above(0), default=TimingPlan.seconds, help=timing)
    add(
        "--colds",
        type=whole(1),
        default=Settings.colds,
        help="cold starts per contestant (default: %(default)s)",
    )
    drift = "per cent that the canary may drift before a block is discarded (default: %(default)g)"
    add("--canary-limit", type=above(0), default=100 * TimingPlan.drift, metavar="PERCENT", help=drift)
    add("--seed", type=int, default=0, help="seed of the random orders (default: %(default)s)")
    add("--out", type=Path, default=places.RESULTS, help="output folder (default: benchmarks/)")
    add("--missing", action="store_true", help="only groups without results")
    add("--replace", action="store_true", help="allow a group to lose contestants that --peers leaves out")
    add("--fresh", action="store_true", help="prepare again even if cached")
    only = "only prepare; a later run uses it and has more time to measure"
    add("--prepare", action="store_true", help=only)
    anew = "only regenerate the pages and charts of all kinds of CPU"
    add("--page", "--report", action="store_true", help=anew)
    return words


def measure_limits(threads: Sequence[int]) -> Mapping[int, Mapping[str, Any]]:
    """Measure the machine's limits for each number of threads."""
    by_threads = {}
    for count in threads:
        one = by_threads[count] = limits.measure(count)
        int8 = f"{one['int8']['peak']:.0f} GOP/s int8" if one["int8"] else "int8 not supported"
        _say(
            f"limits, {count} threads: {one['fp32']['peak']:.0f} GFLOP/s fp32, {int8},"
            f" {one['read']['peak']:.1f} GB/s read"
        )
    return by_threads


def main(argv: Sequence[str] | None = None) -> int:
    given = options().parse_args(argv)
    return finish(lambda: bench(given))


def bench(options: argparse.Namespace) -> int:
    """Run the command; returns 0, or 7 if groups were left out."""
    docs = places.ROOT / "docs" / "performance.md" if options.out == places.RESULTS else None
    if options.page:
        print(write_report(options.out, docs))
        return 0
    machine = summary()
    folder = options.out / "results" / "peers"
    results = folder / machine["kind"]
    cores = tuple(sorted(os.sched_getaffinity(0)))
    counts = [str(count) for count in range(1, len(cores) + 1)]  # one core per thread
    threads = [int(count) for count in parse_names(options.threads, counts, "threads")]
    peers = parse_names(options.peers, list(CONTESTANTS), "peers")
    wanted = campaign.cells(
        parse_names(options.nets, list(NETS), "nets"),
        parse_names(options.precisions, PRECISIONS, "precisions"),
        threads,
    )
    if options.missing:
        there = {group.cell for group in load_groups(results)}
        wanted = [cell for cell in wanted if cell not in there]
    elif not (options.prepare or options.replace):
        campaign.refuse_to_drop(results, wanted, peers)
    settings = Settings(
        registry=Contestants(REGISTRY, CONTESTANTS),
        plan=TimingPlan(
            rounds=options.rounds, seconds=options.group_seconds, drift=options.canary_limit / 100
        ),
        canary=limits.canary,
        cores=cores,
        seed=options.seed,
        trials=options.trials,
        prepare_minutes=options.prepare_minutes,
        colds=options.colds,
        fresh=options.fresh,
        machine=machine,
        limits={} if options.prepare else measure_limits(threads),
        commit=commit(),
        say=_say,
    )
    if options.prepare:
        left = campaign.prepare(settings, wanted, peers, minutes=options.minutes)
        return _tell_left(left, "prepared", "")
    try:
        left = campaign.run(settings, wanted, peers, folder, minutes=options.minutes)
    finally:  # completed measurements are written even after Ctrl-C
        _say(f"written: {write_report(options.out, docs)}")
    return _tell_left(left, "measured", campaign.command_for(left, peers))


def _tell_left(left: Mapping[Cell, str], what: str, remedy: str) -> int:
    """Print the groups that were left out, and return the exit code."""
    if not left:
        return 0
    _say(f"{len(left)} groups were not {what}:")
    for cell, reason in left.items():
        _say(f"  {cell.key}: {reason}")
    _say(f"for them: {remedy or 'the same command again'}")
    return 7


if __name__ == "__main__":
    sys.exit(main())
