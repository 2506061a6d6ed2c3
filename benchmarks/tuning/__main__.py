"""Latency over trials and over minutes: edgepack's tuning compared with MetaSchedule's own builder and runner.

    python -m benchmarks.tuning --minutes 5
    python -m benchmarks.tuning --minutes 10 --repeat 3 --net resnet18 --stock patient
    python -m benchmarks.tuning --page       regenerate the page and the charts from existing results

All tune the same kernels, in the same search space, for the same time, on this machine: edgepack through a
virtual board's real sshd and the agent, stock in its own processes, once with defaults and once with a builder
timeout of 300 s per candidate instead of 30. Each run starts in a new process and folder, in a different order each
time; the time includes imports. Then each tuner's library is built and timed, in turns with the others and
with untuned ones. Run it on a quiet machine, and use ``--repeat`` to see the spread.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.kit import command, documents
from benchmarks.kit.machine import results, summary
from benchmarks.kit.metaschedule import BUILD_TIMEOUT_S
from benchmarks.kit.nets import network
from benchmarks.kit.processes import describe_status, run_until
from benchmarks.tuning import page
from benchmarks.tuning.log import Log, TuningJob, read
from benchmarks.tuning.measure import EDGEPACK, add, calls

STOCK = {"default": ("stock TVM", BUILD_TIMEOUT_S), "patient": ("stock TVM, 300 s builds", 300.0)}
_GRACE_S = 120.0  # extra time for edgepack, which ends by itself


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    folders = results("tuning", options.out, written=options.page)
    if options.page:
        for folder in folders:
            page.write(documents.read(folder / "tuning.json"), folder)
        return
    (out,) = folders
    sides = {EDGEPACK: EDGEPACK} | {name: STOCK[name][0] for name in options.stock}
    document: dict[str, Any] = {
        "benchmark": "tuning",
        "machine": summary(),
        "net": Path(options.net).name,
        "target": options.target,
        "minutes": options.minutes,
        "trials": options.trials,
        "sides": sides,
        "runs": {side: [] for side in sides},
        "untuned_runs": [],
    }
    order = random.Random(0)  # noqa: S311 - an order of turns, no secret
    net = network(options.net)
    kernels = calls(net, options.target)
    with tempfile.TemporaryDirectory(prefix="edgepack-benchmark-") as scratch:
        for number in range(options.repeat):
            folders = {side: Path(scratch) / f"{side}-{number}" for side in sides}
            logs: dict[str, tuple[Log, float]] = {}
            for side in order.sample(list(sides), len(sides)):
                print(f"run {number + 1} of {options.repeat}: {sides[side]}", file=sys.stderr, flush=True)
                logs[side] = spawn(side, net, folders[side], options, seed=number)
            add(document, net, kernels, folders, logs, runs=options.runs)
            # After each run, so that little is lost on interruption.
            documents.write(out / "tuning.json", document, indent=None)
            page.write(document, out)
    print(page.text(document))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command.parser("tuning", __doc__)
    add = parser.add_argument
    add("--minutes", type=command.above(0), default=5.0, help="time limit of each run")
    add("--trials", type=command.whole(1), help="maximum number of trials of each run")
    add("--net", default="mobilenet_v2", help="a network of edgepack.zoo, or an .onnx file")
    add("--target", default="host", help="must be this machine")
    add("--repeat", type=command.whole(1), default=1, help="runs of each tuner")
    add(
        "--stock",
        nargs="*",
        default=list(STOCK),
        choices=list(STOCK),
        help="settings of stock MetaSchedule to run",
    )
    add("--runs", type=command.whole(2), default=30, help="timed inferences of each built library")
    add(
        "--out",
        type=Path,
        help="output folder (default: benchmarks/results/tuning/KIND, for this kind of CPU)",
    )
    add("--page", action="store_true", help="only regenerate the page and the charts")
    return parser.parse_args(argv)


def spawn(side: str, net: Path, folder: Path, options: argparse.Namespace, *, seed: int) -> tuple[Log, float]:
    """Run one tuner in a separate process until its time limit; returns its log and its seconds."""
    folder.mkdir()
    began = time.monotonic()
    job = TuningJob(
        net=str(net),
        target=options.target,
        folder=str(folder),
        minutes=options.minutes,
        trials=options.trials or 1_000_000,
        seed=seed,
        began=began,
        build_timeout_s=STOCK[side][1] if side in STOCK else BUILD_TIMEOUT_S,
    )
    kind = "edgepack" if side == EDGEPACK else "stock"
    argv = [sys.executable, "-m", f"benchmarks.tuning.contestants.{kind}", json.dumps(asdict(job))]
    # edgepack ends by itself; stock has no time limit. Only the table goes to stdout.
    end = began + 60 * options.minutes + (_GRACE_S if side == EDGEPACK else 0)
    status = run_until(argv, end, log=sys.stderr, env={**os.environ, "TVM_NUM_THREADS": "1"}, poll_s=60)
    if status:
        raise SystemExit(f"{side} {describe_status(status)}")
    if status is None and side == EDGEPACK:
        raise SystemExit(f"edgepack did not end within {_GRACE_S:.0f} s after its time limit")
    seconds = time.monotonic() - began
    log = folder / "log.jsonl"
    return read(log.read_text(encoding="utf-8").splitlines() if log.exists() else [], seconds), seconds


if __name__ == "__main__":
    sys.exit(command.finish(main))
