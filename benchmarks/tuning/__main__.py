"""Latency against trials and against minutes: edgepack's tuning beside MetaSchedule's own builder and runner.

    python -m benchmarks.tuning --minutes 5
    python -m benchmarks.tuning --minutes 10 --repeat 3 --net resnet18 --stock patient

All tune the same kernels, in the same search space, for the same time, on this machine: edgepack through a
virtual board's real sshd and the agent, stock in its own processes, once as it is and once with a builder that
waits 300 s for a candidate instead of 30. Each run starts in a fresh process and folder, in another order each
time; the clock includes imports. Then each tuner's library is built and timed, in turns with the others and
with untuned ones. Run it on a quiet machine, and give ``--repeat`` to see the spread.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.common import machine, network
from benchmarks.tuning import measure, page
from benchmarks.tuning.log import Job, Log, read

EDGEPACK = "edgepack"
STOCK = {"default": ("stock TVM", 30.0), "patient": ("stock TVM, 300 s builds", 300.0)}
_GRACE_S = 120.0  # edgepack ends by itself; this is for one that does not


def main() -> None:
    """Run what the arguments say, print the table, write JSON, Markdown and charts."""
    options = parse()
    sides = {EDGEPACK: EDGEPACK} | {name: STOCK[name][0] for name in options.stock}
    document: dict[str, Any] = {
        "benchmark": "tuning",
        "machine": machine(),
        "net": Path(options.net).name,
        "target": options.target,
        "minutes": options.minutes,
        "trials": options.trials,
        "sides": sides,
        "runs": {side: [] for side in sides},
        "untuned_runs": [],
    }
    order = random.Random(0)  # noqa: S311 - an order of turns, no secret
    with tempfile.TemporaryDirectory(prefix="edgepack-benchmark-") as scratch:
        net = network(options.net, Path(scratch))
        kernels = measure.kernels(net, options.target)
        for number in range(options.repeat):
            folders = {side: Path(scratch) / f"{side}-{number}" for side in sides}
            logs: dict[str, tuple[Log, float]] = {}
            for side in order.sample(list(sides), len(sides)):
                print(f"run {number + 1} of {options.repeat}: {sides[side]}", file=sys.stderr, flush=True)
                logs[side] = spawn(side, net, folders[side], options, seed=number)
            measure.add(document, net, kernels, folders, logs, runs=options.runs)
            measure.write(document, options.out)  # after each, so that an end in between loses little
    print(page.text(document))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="of each run")
    parser.add_argument("--trials", type=int, help="stop a run earlier, after so many")
    parser.add_argument("--net", default="mobilenet_v2", help="a network of edgepack.zoo, or an .onnx file")
    parser.add_argument("--target", default="host", help="must be this machine")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each tuner")
    parser.add_argument(
        "--stock", nargs="*", default=list(STOCK), choices=list(STOCK), help="which of stock's settings"
    )
    parser.add_argument("--runs", type=int, default=30, help="timed inferences of each built library")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results/tuning"), help="where results go"
    )
    options = parser.parse_args(argv)
    if options.minutes <= 0 or options.repeat < 1 or options.runs < 2:
        parser.error("--minutes is more than 0, --repeat 1 or more, --runs 2 or more")
    if options.trials is not None and options.trials < 1:
        parser.error("--trials is 1 or more")
    return options


def spawn(side: str, net: Path, folder: Path, options: argparse.Namespace, *, seed: int) -> tuple[Log, float]:
    """Run one tuner in a process group of its own, ended when the minutes are over; its log and its seconds."""
    folder.mkdir()
    job = Job(
        net=str(net),
        target=options.target,
        folder=str(folder),
        minutes=options.minutes,
        trials=options.trials or 1_000_000,
        seed=seed,
        began=time.monotonic(),
        build_timeout_s=STOCK[side][1] if side in STOCK else 30.0,
    )
    module = (
        "benchmarks.tuning.contestants.edgepack"
        if side == EDGEPACK
        else "benchmarks.tuning.contestants.stock"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", module, json.dumps(asdict(job))],
        start_new_session=True,
        stdout=sys.stderr,  # stock logs there; the table alone is on stdout
        env={**os.environ, "TVM_NUM_THREADS": "1"},
    )
    try:
        # edgepack ends itself; stock knows no time limit.
        code = process.wait(60 * options.minutes + (_GRACE_S if side == EDGEPACK else 0))
        if code:
            raise SystemExit(f"{side} ended with {code}")
    except subprocess.TimeoutExpired:
        if side == EDGEPACK:
            raise SystemExit(f"edgepack did not end by itself {_GRACE_S:.0f} s after its time") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    seconds = time.monotonic() - job.began
    log = folder / "log.jsonl"
    return read(log.read_text(encoding="utf-8").splitlines() if log.exists() else [], seconds), seconds


if __name__ == "__main__":
    main()
