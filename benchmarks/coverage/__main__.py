"""`python -m benchmarks.coverage`: run the cases, keep the results, write docs/onnx-coverage.md.

python -m benchmarks.coverage                       all cases, some 15 minutes on 2 cores
python -m benchmarks.coverage --cases '^test_conv'  some, beside the results there are
python -m benchmarks.coverage --resume --minutes 5  go on where the last run stopped, for 5 minutes
python -m benchmarks.coverage --page                only the page, from the results there are
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.coverage import results
from benchmarks.coverage.cases import Case, bind, collect, left_out
from benchmarks.coverage.contestants import TARGET, contestants, preload
from benchmarks.coverage.page import BOUND, EDGEPACK, STOCK, page
from benchmarks.coverage.pool import Tell, run_all
from benchmarks.kit import agent, command
from benchmarks.kit.documents import write_text
from benchmarks.kit.places import ROOT

NETWORK_FACTOR = 10
Job = tuple[str, Case]


def _arguments() -> argparse.Namespace:
    parser = command.parser("coverage", __doc__)
    add = parser.add_argument
    add("--cases", default="", metavar="PATTERN", help="regular expression; default all")
    add("--only", nargs="+", choices=(EDGEPACK, STOCK, BOUND), help="default all")
    add("--resume", action="store_true", help="skip cases that the results have")
    add("--minutes", type=float, default=0.0, help="start no case after so many minutes")
    add("--processes", type=int, default=os.cpu_count() or 1)
    add("--seconds", type=float, default=60.0, help="time limit of a case; ten times that for a network")
    add("--target", default=TARGET)
    add("--results", type=Path, default=Path(__file__).with_name("RESULTS.json"))
    add("--out", type=Path, default=ROOT / "docs/onnx-coverage.md")
    add("--page", action="store_true", help="write the page from the results there are")
    return parser.parse_args()


def main() -> int:
    options = _arguments()
    found = results.read(options.results, options.target)
    if options.page and not found.rows:
        sys.exit(f"{options.results}: no results there to make the page from; run without --page first")
    if not options.page:
        found = _to_go_on_with(found, options)
        run(options, found)
    write_text(options.out, page(found.rows.values(), found.environment, found.target))
    counted = [row for row in found.rows.values() if "edgepack" in row]
    passed = sum(row["edgepack"]["status"] == "passed" for row in counted)
    print(f"{passed} of {len(counted)} cases pass; see {options.out}", file=sys.stderr)
    return 0


def _to_go_on_with(found: results.Results, options: argparse.Namespace) -> results.Results:
    """The results there are, or none of them if a whole run replaces what other tools or another target gave."""
    here = results.Results({}, results.environment(), options.target)
    if (found.environment, found.target) == (here.environment, here.target):
        return found
    if options.cases or options.only or options.resume or options.minutes:
        sys.exit(
            f"{options.results}: made for {found.target} with {found.environment}, which a part made for"
            f" {here.target} with {here.environment} cannot stand beside; run everything, or name another file"
            " with --results"
        )
    return here


def run(options: argparse.Namespace, found: results.Results) -> None:
    """Run the chosen cases and put what became of them into `found` and the file of results."""
    rows = found.rows
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # so that `finally` ends the children
    preload()
    cases = collect(options.cases)
    with tempfile.TemporaryDirectory(prefix="edgepack-coverage-board-") as folder:
        works = contestants(agent.place(Path(folder), options.target), options.target)
        chosen = options.only or list(works)
        deadline = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
        jobs = _jobs(cases, chosen, rows, options.resume, deadline)

        def work(job: Job, tell: Tell) -> dict[str, object]:
            name, case = job
            return works[name](case, tell)

        def limit(job: Job) -> float:
            return options.seconds * (NETWORK_FACTOR if job[1].operator == results.NETWORKS else 1)

        made = run_all(jobs, work, processes=options.processes, limit=limit)
        try:
            for done, ((name, case), result) in enumerate(made, 1):
                if result["status"] == "passed":
                    del result["step"]
                if not result.get("deep", "-"):
                    del result["deep"]  # nothing in the way
                rows[case.name][name] = result
                if done % 100 == 0:
                    print(f"{done} done, at {case.name}", file=sys.stderr)
                    results.write(options.results, found)
        finally:
            made.close()
            results.write(options.results, found)


def _jobs(
    cases: list[Case], chosen: list[str], rows: dict[str, results.Row], resume: bool, deadline: float
) -> Iterator[Job]:
    """The work to do; what needs none is put into `rows` at once."""
    for case in cases:
        opset = {op.domain: op.version for op in case.model.opset_import}.get("", 0)
        about = {"name": case.name, "operator": case.operator, "opset": opset, "bound": sorted(case.shaping)}
        reason = left_out(case)
        if reason:
            rows[case.name] = {**about, "left_out": reason}
            continue
        row = rows[case.name] = {**rows.get(case.name, {}), **about}
        for name in chosen:
            if (resume and name in row) or time.monotonic() > deadline:
                continue
            if name == "stock_bound" and bind(case)[0] is case.model:
                continue  # as `stock`
            yield name, case


if __name__ == "__main__":
    sys.exit(command.finish(main))
