"""`python -m benchmarks.coverage`: run the cases and the networks, save the results, write docs/onnx-coverage.md.

python -m benchmarks.coverage                       all cases and networks, about an hour on 2 cores
python -m benchmarks.coverage --cases '^test_conv'  some cases, added to the existing results
python -m benchmarks.coverage --resume --minutes 5  resume the previous run, for 5 minutes
python -m benchmarks.coverage --page                only the page, from the existing results
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.coverage import results
from benchmarks.coverage.contestants import TARGET
from benchmarks.coverage.measure import run
from benchmarks.coverage.outcomes import BOUND, EDGEPACK, GPU, NETWORKS_ON_GPU, STOCK
from benchmarks.coverage.page import page
from benchmarks.kit import command
from benchmarks.kit.documents import write_text
from benchmarks.kit.places import ROOT


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command.parser("coverage", __doc__)
    add = parser.add_argument
    add(
        "--cases",
        type=command.pattern,
        default="",
        metavar="PATTERN",
        help="regular expression (default: all)",
    )
    add(
        "--only",
        nargs="+",
        choices=(EDGEPACK, GPU, STOCK, BOUND, NETWORKS_ON_GPU),
        help="what to run (default: all)",
    )
    add("--resume", action="store_true", help="skip cases that already have results")
    add("--minutes", type=command.at_least(0), default=0.0, help="start no new case after this many minutes")
    add("--processes", type=command.whole(1), default=os.cpu_count() or 1)
    limit = "time limit per case; ten times that for a network"
    add("--seconds", type=command.above(0), default=60.0, help=limit)
    add("--target", default=TARGET)
    add("--results", type=Path, default=Path(__file__).with_name("RESULTS.json"))
    add("--out", type=Path, default=ROOT / "docs/onnx-coverage.md")
    add("--page", action="store_true", help="only regenerate the page")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    existing = results.read(options.results, options.target)
    if options.page and not existing.rows:
        sys.exit(f"{options.results}: no results to make the page from; run without --page first")
    if not options.page:
        existing = _results_to_extend(existing, options)
        run(options, existing)
    write_text(options.out, page(existing))
    counted = [row for row in existing.rows.values() if "edgepack" in row]
    passed = sum(row["edgepack"]["status"] == "passed" for row in counted)
    print(f"{passed} of {len(counted)} cases pass; see {options.out}", file=sys.stderr)
    return 0


def _results_to_extend(existing: results.Results, options: argparse.Namespace) -> results.Results:
    """Return the existing results, or none if a complete run replaces those of other tools or another target."""
    here = results.Results({}, results.environment(), options.target)
    if (existing.environment, existing.target) == (here.environment, here.target):
        return existing
    if options.cases or options.only or options.resume or options.minutes:
        sys.exit(
            f"{options.results}: the results for {existing.target} with {existing.environment} cannot be combined with"
            f" partial results for {here.target} with {here.environment}; run all cases, or choose another file"
            " with --results"
        )
    return here


if __name__ == "__main__":
    sys.exit(command.finish(main))
