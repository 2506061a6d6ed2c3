"""Run the chosen cases with the chosen contestants, and record the outcomes."""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.coverage import results
from benchmarks.coverage.cases import Case, bind, collect, left_out
from benchmarks.coverage.contestants import contestants, preload
from benchmarks.coverage.pool import Tell, run_all
from benchmarks.kit import agent

NETWORK_FACTOR = 10
TuningJob = tuple[str, Case]


def run(options: argparse.Namespace, stored: results.Results) -> None:
    """Run the chosen cases and add the outcomes to `stored` and to the results file."""
    rows = stored.rows
    # So that `finally` terminates the children.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    preload()
    cases = collect(options.cases)
    with tempfile.TemporaryDirectory(prefix="edgepack-coverage-board-") as folder:
        works = contestants(agent.place(Path(folder), options.target), options.target)
        chosen = options.only or list(works)
        deadline = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
        jobs = _jobs(cases, chosen, rows, options.resume, deadline)

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


def _jobs(
    cases: list[Case], chosen: list[str], rows: dict[str, results.Row], resume: bool, deadline: float
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
