"""Tuning throughput and quality: edgepack beside MetaSchedule's own LocalBuilder and LocalRunner.

    python benchmarks/tuning.py --minutes 5
    python benchmarks/tuning.py --minutes 10 --trials 1500 --repeat 3 --net path/to/model.onnx

Both tune the same kernels, with the same search space, for the same time, on this machine: edgepack through a
virtual board's real sshd and the agent, stock in its own processes. Each run starts in a fresh process and
folder; the clock includes imports. A trial is a candidate that ran. The predicted total takes a kernel's best
candidate, or its fallback schedule's time, as edgepack measured it, where that is less. Run it on a quiet
machine, and give ``--repeat`` to see the spread.
"""

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIDES = ("edgepack", "stock")
STOCK_NEEDS = "stock found no candidate that ran in the time it had"


def main() -> None:
    """Run what the arguments say and print a table."""
    options = parse()
    if options.side:
        {"edgepack": tune_edgepack, "stock": tune_stock}[options.side](options)
        return
    with tempfile.TemporaryDirectory(prefix="edgepack-benchmark-") as scratch:
        net = network(options.net, Path(scratch))
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for number in range(options.repeat):
            folders = {side: Path(scratch) / f"{side}-{number}" for side in SIDES}
            for side in SIDES:
                seconds = spawn(side, net, folders[side], options)
                found = summary(net, options.target, folders[side], folders["edgepack"])
                runs[side].append(
                    {**found, "seconds": seconds, "trials_per_minute": 60 * found["trials"] / seconds}
                )
                print(f"{side:9} run {number + 1}: {json.dumps(runs[side][-1])}", flush=True)
    report(runs)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="of each run")
    parser.add_argument("--trials", type=int, default=1_000_000, help="stop a run earlier, after so many")
    parser.add_argument("--net", default="mobilenet_v2", help="mobilenet_v2, or an .onnx file")
    parser.add_argument("--target", default="host", help="must be this machine")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each side")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def network(name: str, scratch: Path) -> Path:
    """The network as a file."""
    if name != "mobilenet_v2":
        return Path(name).resolve()
    net = scratch / "mobilenet_v2.onnx"
    subprocess.run([sys.executable, "-m", "edgepack.zoo", "mobilenet_v2", str(net)], check=True)
    return net


def spawn(side: str, net: Path, folder: Path, options: argparse.Namespace) -> float:
    """Run one side in a process group of its own, ended when the minutes are over; returns its seconds."""
    folder.mkdir()
    words = ["--side", side, "--folder", folder, "--net", net, "--target", options.target]
    words += ["--minutes", options.minutes, "--trials", options.trials]
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, __file__, *map(str, words)], start_new_session=True)
    try:
        # edgepack ends itself; stock knows no time limit.
        code = process.wait(60 * options.minutes + (120 if side == "edgepack" else 0))
        if code:
            raise SystemExit(f"{side} ended with {code}")
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return time.monotonic() - began


def tune_edgepack(options: argparse.Namespace) -> None:
    """Tune through a virtual board on this machine, imports and all within the minutes."""
    from edgepack.remote.session import connect
    from edgepack.remote.tools import ensure_tools
    from edgepack.remote.virtual import up
    from edgepack.target import load_target
    from edgepack.tune import BatchMeasured, BoardRunner, RecordStore, tune

    began = time.monotonic()
    target = load_target(options.target)

    def show(event: Any) -> None:
        if isinstance(event, BatchMeasured):
            print(
                f"  {event.seconds:6.0f} s {event.trials:5} trials {event.predicted_ms:8.3f} ms",
                file=sys.stderr,
            )

    with up("host", owned=True) as board:

        def open_session() -> Any:
            session = connect(board.name, board.device)
            return session, ensure_tools(session, target, board.device.work_dir)

        runner = BoardRunner(open_session, target.tune, shares_host=True)
        minutes = options.minutes - (time.monotonic() - began) / 60
        store = RecordStore(options.folder)
        tune(
            Path(options.net),
            target,
            runner,
            trials=options.trials,
            minutes=minutes,
            store=store,
            progress=show,
        )


def tune_stock(options: argparse.Namespace) -> None:
    """Tune with MetaSchedule's own builder, runner, cost model and scheduler."""
    from tvm.s_tir import meta_schedule as ms
    from tvm.s_tir.meta_schedule.relax_integration import extracted_tasks_to_tune_contexts

    from edgepack.lower import tuning_tasks
    from edgepack.schedules import FAMILIES
    from edgepack.target import load_target

    target = load_target(options.target)
    contexts, weights = extracted_tasks_to_tune_contexts(
        tuning_tasks(Path(options.net), target),
        str(options.folder),
        FAMILIES[target.family].space(target),
        seed=0,
    )
    config = ms.runner.EvaluatorConfig(
        number=1, repeat=target.tune.repeats, min_repeat_ms=target.tune.min_repeat_ms
    )
    ms.tune.tune_tasks(
        tasks=contexts,
        task_weights=weights,
        work_dir=str(options.folder),
        max_trials_global=options.trials,
        builder=ms.builder.LocalBuilder(),
        runner=ms.runner.LocalRunner(evaluator_config=config, timeout_sec=target.tune.timeout_s),
        database=ms.database.JSONDatabase(
            str(options.folder / "workload.json"), str(options.folder / "tuning_record.json")
        ),
    )


def summary(net: Path, target_name: str, folder: Path, timed: Path) -> dict[str, float]:
    """Candidates that ran, those that did not, and the predicted total in milliseconds."""
    from edgepack.lower import tuning_tasks
    from edgepack.lower.build import workload
    from edgepack.target import load_target
    from edgepack.tune.search import DEAD_S, cost
    from edgepack.tune.store import RecordStore, open_database, read_untuned, repair

    target = load_target(target_name)
    untuned = read_untuned(RecordStore(timed).folder(target))
    records = folder if (folder / "workload.json").exists() else RecordStore(folder).folder(target)
    repair(records)
    best: dict[str, float] = {}
    ran = dead = 0
    for record in open_database(records).get_all_tuning_records():
        name, seconds = workload(record.workload.mod["main"]), cost(record)
        ran, dead = ran + (seconds < DEAD_S), dead + (seconds >= DEAD_S)
        best[name] = min(best.get(name, math.inf), 1000 * seconds)
    total = before = 0.0
    for task in tuning_tasks(net, target):
        name = workload(task.dispatched[0]["main"])
        before += task.weight * untuned[name]
        total += task.weight * min(untuned[name], best.get(name, math.inf))
    return {"trials": ran, "failed": dead, "predicted_ms": total, "untuned_ms": before}


def report(runs: dict[str, list[dict[str, float]]]) -> None:
    """Medians, their spread, and how the sides compare."""
    print(f"\n{'median (least to most)':24}" + "".join(f"{side:>28}" for side in SIDES) + f"{'ratio':>8}")
    for figure in ("trials_per_minute", "trials", "failed", "predicted_ms", "untuned_ms"):
        medians, cells = [], []
        for side in SIDES:
            values = [run[figure] for run in runs[side]]
            medians.append(statistics.median(values))
            cells.append(f"{medians[-1]:.1f} ({min(values):.1f} to {max(values):.1f})")
        ratio = f"{medians[0] / medians[1]:8.2f}" if medians[1] else f"{'-':>8}"
        print(f"{figure:24}" + "".join(f"{cell:>28}" for cell in cells) + ratio)
    if not any(run["trials"] for run in runs["stock"]):
        print(STOCK_NEEDS)


if __name__ == "__main__":
    main()
