"""Run the chosen cases with the chosen contestants, then the networks, and record the outcomes."""

import argparse
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.coverage import networks, results
from benchmarks.coverage.boards import LocalBoard, place
from benchmarks.coverage.cases import Case, bind, collect, left_out, spread
from benchmarks.coverage.contestants import GPU_TARGET, contestants, preload
from benchmarks.coverage.outcomes import NETWORKS_ON_GPU
from benchmarks.coverage.pool import Tell, run_all

NETWORK_FACTOR = 10
TuningJob = tuple[str, Case]


def run(options: argparse.Namespace, stored: results.Results) -> None:
    """Run the chosen cases and networks, and add the outcomes to `stored` and to the results file."""
    # So that `finally` terminates the children.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    preload()
    deadline = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    with tempfile.TemporaryDirectory(prefix="edgepack-coverage-board-") as folder:
        board, gpu = (place(Path(folder, target), target) for target in (options.target, GPU_TARGET))
        chosen = options.only or [*contestants(board, gpu), NETWORKS_ON_GPU]
        _run_cases(
            options,
            stored,
            contestants(board, gpu),
            [name for name in chosen if name != NETWORKS_ON_GPU],
            deadline,
        )
        if NETWORKS_ON_GPU in chosen:
            _run_networks(options, stored, gpu, deadline)


def _run_cases(
    options: argparse.Namespace,
    stored: results.Results,
    works: Mapping[str, Any],
    chosen: Sequence[str],
    deadline: float,
) -> None:
    rows = stored.rows
    jobs = _jobs(spread(collect(options.cases)), chosen, rows, options.resume, deadline)

    def work(job: TuningJob, tell: Tell) -> dict[str, object]:
        name, case = job
        return works[name](case, tell)

    def limit(job: TuningJob) -> float:
        return options.seconds * (NETWORK_FACTOR if job[1].operator == results.NETWORKS else 1)

    outcomes = run_all(jobs, work, processes=options.processes, limit=limit)
    try:
        for done, ((name, case), result) in enumerate(outcomes, 1):
            if result["status"] == "passed":
                del result["step"]
            if not result.get("deep", "-"):
                del result["deep"]  # no problems
            rows[case.name][name] = result
            if done % 100 == 0:
                print(f"{done} done, at {case.name}", file=sys.stderr)
                results.write(options.results, stored)
    finally:
        outcomes.close()
        results.write(options.results, stored)


def _run_networks(
    options: argparse.Namespace, stored: results.Results, gpu: LocalBoard, deadline: float
) -> None:
    """Run networks one after the other, each in a process of its own."""
    seconds = options.seconds * NETWORK_FACTOR

    def jobs() -> Iterator[networks.ZooModel]:
        for variant in networks.VARIANTS:
            wanted = re.search(options.cases, variant.name) and time.monotonic() <= deadline
            if wanted and not (options.resume and variant.name in stored.networks):
                yield variant

    def work(variant: networks.ZooModel, _tell: Tell) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="edgepack-coverage-") as folder:
            return networks.measure(gpu, variant, Path(folder), limit_s=seconds)

    outcomes = run_all(jobs(), work, processes=1, limit=lambda _: 2 * seconds)
    try:
        for variant, result in outcomes:
            stored.networks[variant.name] = {"name": variant.name, **result}
            print(f"{variant.name}: {result['status']}", file=sys.stderr)
            results.write(options.results, stored)
    finally:
        outcomes.close()


def _jobs(
    cases: list[Case], chosen: Sequence[str], rows: dict[str, results.Row], resume: bool, deadline: float
) -> Iterator[TuningJob]:
    """Return the jobs; cases that need no run are added to `rows` directly."""
    for case in cases:
        opset = {op.domain: op.version for op in case.model.opset_import}.get("", 0)
        about = {"name": case.name, "operator": case.operator, "opset": opset, "bound": sorted(case.shaping)}
        reason = left_out(case)
        if reason:
            rows[case.name] = {**about, "left_out": reason}
            continue
        row = rows[case.name] = {**rows.get(case.name, {}), **about}
        row.pop("left_out", None)  # from an earlier run
        for name in chosen:
            if (resume and name in row) or time.monotonic() > deadline:
                continue
            if name == "stock_bound" and bind(case)[0] is case.model:
                continue  # same as `stock`
            yield name, case
