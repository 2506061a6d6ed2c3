"""Run the three steps with each tool over each link, timed, counted and checked."""

import argparse
import json
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.deploy.contestants import WAYS, Destination, Way, WayFailed, check
from benchmarks.deploy.link import Link
from benchmarks.deploy.versions import Version

STEPS = ("first", "redeploy", "rollback")


def run(
    options: argparse.Namespace, first: Version, second: Version, scratch: Path
) -> Iterator[dict[str, Any]]:
    """Run the three steps with each tool over each link, in turns; one sample per step."""
    from edgepack.remote.virtual import up

    links: dict[str, dict[str, float]] = {"loopback": {}}
    if options.mbit:
        links[f"{options.mbit:g} Mbit/s"] = {"mbit": options.mbit, "delay_ms": options.rtt_ms / 2}
    ways = [WAYS[name] for name in options.ways if WAYS[name].missing() is None]
    order = random.Random(0)  # noqa: S311 - an order of turns, no secret
    with up("host", owned=True) as board:
        for name, settings in links.items():
            with Link(board.device.port, **settings) as link:
                device = board.device.model_copy(update={"port": link.port})
                for repetition in range(options.limited_repeat if settings else options.repeat):
                    for way in order.sample(ways, len(ways)):
                        own = f"benchmark-{repetition}-{way.name.replace(' ', '')}"
                        there = Destination(device, Path(board.device.work_dir) / own, scratch)
                        try:
                            for sample in steps(way, there, link, first, second):
                                yield {"link": name, "repetition": repetition, **sample}
                        finally:
                            shutil.rmtree(there.folder, ignore_errors=True)


def steps(
    way: Way, there: Destination, link: Link, first: Version, second: Version
) -> Iterator[dict[str, Any]]:
    """First deploy, redeploy and rollback with one tool; stops at the first failure."""
    way.prepare(there)
    calls = ((way.deploy, first), (way.deploy, second), (way.back, first))
    for step, (act, version) in zip(STEPS, calls, strict=True):
        link.count()
        try:
            sample = act(there, version) | link.count()
            check(way, there, version)
        except WayFailed as failure:
            sample = {"error": str(failure)}
        print(f"{way.name:10} {step:9} {json.dumps(sample)}", file=sys.stderr, flush=True)
        yield {"way": way.name, "step": step, **sample}
        if "error" in sample:
            return
