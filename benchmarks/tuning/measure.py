"""The figures of one repetition, and the libraries built from its records."""

import shutil
import statistics
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.kit import metaschedule
from benchmarks.kit.libraries import build_stock, measure
from benchmarks.tuning.contestants.stock import search_seconds
from benchmarks.tuning.curves import Point, busy, curve, rates
from benchmarks.tuning.log import PHASES, Log, TunerTrial
from edgepack.config.target import Target, load_target
from edgepack.lower import compile_model, tuning_tasks, workload
from edgepack.tuning import RecordStore, best_records
from edgepack.tuning.store import RECORDS, WORKLOADS, read_untuned, repair, write_untuned

EDGEPACK = "edgepack"


def calls(net: Path, target_name: str) -> dict[str, int]:
    """Return the calls per inference of each tunable kernel, by workload."""
    calls_by_workload: Counter[str] = Counter()
    for task in tuning_tasks(net, load_target(target_name)):
        calls_by_workload[workload(task.dispatched[0]["main"])] += int(task.weight)
    return dict(calls_by_workload)


def add(
    document: dict[str, Any],
    net: Path,
    weights: Mapping[str, int],
    folders: Mapping[str, Path],
    logs: Mapping[str, tuple[Log, float]],
    *,
    runs: int,
) -> None:
    """Add one repetition: each tuner's figures, and its library's time compared with the untuned ones."""
    target = load_target(document["target"])
    untuned = read_untuned(RecordStore(folders[EDGEPACK]).folder(target))
    lacking = weights.keys() - untuned.keys()
    if lacking:
        raise SystemExit(
            f"edgepack timed {len(weights) - len(lacking)} of {len(weights)} kernels untuned within "
            f"{document['minutes']:g} minutes: increase --minutes"
        )
    for side, folder in folders.items():
        if side != EDGEPACK:
            _as_store(folder, RecordStore(folder).folder(target), untuned)
    built = build_and_measure(net, target, folders, runs)
    document["untuned_runs"].append({name: built[name] for name in ("untuned", "stock untuned")})
    for side, (log, seconds) in logs.items():
        own = "untuned" if side == EDGEPACK else "stock untuned"
        document["runs"][side].append(
            {
                **figures(log, seconds, weights, untuned, stock=side != EDGEPACK),
                "built_ms": statistics.median(built[side]) if side in built else None,
                "built_untuned_ms": statistics.median(built[own]),
                "built_samples_ms": built.get(side, []),
            }
        )


def figures(
    log: Log, seconds: float, weights: Mapping[str, int], untuned: Mapping[str, float], *, stock: bool
) -> dict[str, Any]:
    """Return the figures of a run, with the raw trials and intervals."""
    points = curve(log.trials, weights, untuned)
    ran = [trial for trial in log.trials if trial.ms is not None]
    seconds_busy = {phase: busy(log.pieces[phase]) for phase in PHASES}
    if stock:
        seconds_busy["search"] = search_seconds(log.profile)
    names = list(weights)
    return {
        "seconds": seconds,
        "tried": len(log.trials),
        "failed": len(log.trials) - len(ran),
        "recorded": log.recorded,
        "trials_per_minute": 60 * len(log.trials) / seconds,
        "trials_each_minute": rates(log.trials, seconds),
        "first_result_s": min((trial.seconds for trial in ran), default=None),
        "untuned_ms": points[0].predicted_ms,
        "predicted_ms": points[-1].predicted_ms,
        "busy_s": seconds_busy,
        "notes": log.notes[:3],
        "kernels": [
            {"workload": name, "calls": weights[name], "untuned_ms": untuned[name]} for name in names
        ],
        "trials": [
            [round(t.seconds, 3), names.index(t.workload) if t.workload in weights else None, t.ms]
            for t in log.trials
        ],
        "pieces": {
            phase: [[round(began, 3), round(ended, 3)] for began, ended in log.pieces[phase]]
            for phase in PHASES
        },
        "profile": log.profile,
    }


def points_of(run: Mapping[str, Any]) -> list[Point]:
    """Return the curve of a run from its ``figures``."""
    names = [kernel["workload"] for kernel in run["kernels"]]
    trials = [TunerTrial(at, "" if kernel is None else names[kernel], ms) for at, kernel, ms in run["trials"]]
    return curve(
        trials,
        {kernel["workload"]: kernel["calls"] for kernel in run["kernels"]},
        {kernel["workload"]: kernel["untuned_ms"] for kernel in run["kernels"]},
    )


def build_and_measure(
    net: Path, target: Target, folders: Mapping[str, Path], runs: int
) -> dict[str, list[float]]:
    """Return milliseconds of whole inferences: both untuned libraries, and that of each tuner with records."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = {"untuned": Path(scratch, "untuned.so"), "stock untuned": Path(scratch, "stock.so")}
        compiled = compile_model(net, target, paths["untuned"])
        build_stock(net, target, paths["stock untuned"])
        for side, folder in folders.items():
            records = best_records(net, target, RecordStore(folder))
            if records is not None and (records / RECORDS).stat().st_size:
                paths[side] = Path(scratch, f"{side}.so")
                compile_model(net, target, paths[side], records=records)
        return measure(paths, compiled.inputs, runs)


def _as_store(folder: Path, store: Path, untuned: Mapping[str, float]) -> None:
    """Write stock's records as an edgepack store, so that the same rule chooses the best of both."""
    names = {metaschedule.WORKLOADS: WORKLOADS, metaschedule.RECORDS: RECORDS}
    for name, own in names.items():
        if (folder / name).exists():
            shutil.copy(folder / name, store / own)
    repair(store)
    write_untuned(store, untuned, {})
