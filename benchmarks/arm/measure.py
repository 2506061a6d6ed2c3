"""Measure one net on one target: counts of both contestants and predictions for edgepack's hot loops, as JSON values."""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.arm import contestants, loops, mca, userland
from benchmarks.arm.counter import Profile
from benchmarks.kit.nets import artifacts
from edgepack.config.target import load_target
from edgepack.errors import EdgepackError
from edgepack.tuning import RecordStore, best_records
from edgepack.zoo import NETS


def measure(net: str, target: str, *, tuned: bool = True) -> dict[str, Any]:
    """Count and predict one cell; failures are recorded with their reason.

    If ``tuned``, this machine's tuning records of the target are used, if there are any.
    """
    cell: dict[str, Any] = {"net": net, "title": NETS[net].title, "target": target, "macs": NETS[net].macs}
    cell |= {"contenders": {}, "failures": {}, "loops": []}
    try:
        net_files = artifacts(net)
    except EdgepackError as error:
        cell["failures"] = dict.fromkeys(("edgepack", "onnxruntime"), _words(error))
        return cell
    with userland.board(target) as board, tempfile.TemporaryDirectory(prefix="edgepack-arm-") as folder:
        try:
            store = RecordStore.of_user(emulated=False)
            records = best_records(net_files.onnx, load_target(target), store) if tuned else None
            words, ran, model = contestants.edgepack(net_files, target, board, Path(folder), records)
            cell["contenders"]["edgepack"] = words
            cell["loops"] = _loops(ran, model, target)
        except EdgepackError as error:
            cell["failures"]["edgepack"] = _words(error)
        try:
            cell["contenders"]["onnxruntime"] = contestants.onnxruntime(
                net_files, target, board, Path(folder)
            )
        except EdgepackError as error:
            cell["failures"]["onnxruntime"] = _words(error)
    return cell


def _words(error: EdgepackError) -> str:
    return f"{error.message}: {error.why}" if error.why else error.message


def _loops(ran: Profile, model: Path, target: str) -> list[dict[str, Any]]:
    """Return llvm-mca's predictions for the executed loops with multiply-adds, on each core used for the target."""
    code = loops.disassemble(model)
    candidates = (loop for kernel, body in code.items() for loop in loops.innermost(kernel, body))
    with_work = [loop for loop in loops.weigh(candidates, ran.runs, str(model)) if mca.work(loop)[1]]
    rows = []
    for core in mca.CORES[target]:
        rows += [
            {
                "core": core,
                "model": prediction.model,
                **_of(prediction.loop, ran.total),
                "kind": prediction.kind,
                "macs": prediction.macs,
                "cycles": prediction.cycles,
                "peak_macs_per_cycle": prediction.peak,
                "share_of_peak": prediction.share,
            }
            for prediction in mca.predict([loop for loop in with_work if loop.straight], core)
        ]
        why = {"skipped": "it contains branches: llvm-mca predicts only straight code"}
        rows += [{"core": core, **_of(loop, ran.total), **why} for loop in with_work if not loop.straight]
    return rows


def _of(loop: loops.InnerLoop, total: int) -> dict[str, Any]:
    return {
        "kernel": loop.kernel,
        "executed_share": loop.executed / total,
        "iterations": loop.iterations,
        "instructions": len(loop.body),
    }


def summary(cell: dict[str, Any], core: str) -> dict[str, float] | None:
    """Total over all predicted loops of a cell: coverage, cycles per inference, share of peak; None if there are none."""
    rows = [row for row in cell["loops"] if row["core"] == core and "cycles" in row]
    if not rows:
        return None
    cycles = sum(row["iterations"] * row["cycles"] for row in rows)
    least = sum(row["iterations"] * row["macs"] / row["peak_macs_per_cycle"] for row in rows)
    return {
        "executed_share": sum(row["executed_share"] for row in rows),
        "macs_share": sum(row["iterations"] * row["macs"] for row in rows) / cell["macs"],
        "cycles": cycles,
        "share_of_peak": least / cycles,
    }
