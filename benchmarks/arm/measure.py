"""One net on one target: the counts of both contenders, and the predictions for edgepack's hot loops, as JSON values."""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.arm import contestants, loops, mca, userland
from benchmarks.arm.contestants import Measured
from benchmarks.arm.mca import Prediction
from benchmarks.kit.nets import Artifacts, artifacts
from edgepack.config.target import load_target
from edgepack.errors import EdgepackError
from edgepack.zoo import NETS


def measure(net: str, target: str, *, tuned: bool = True) -> dict[str, Any]:
    """Count and predict one cell; what fails stands in it with its reason.

    Args:
        net: A key of the zoo.
        target: One of ``contestants.targets()``.
        tuned: Take tuning records of this target where this machine has some.
    """
    cell: dict[str, Any] = {"net": net, "title": NETS[net].title, "target": target, "macs": NETS[net].macs}
    cell |= {"contenders": {}, "failures": {}, "loops": []}
    try:
        made = artifacts(net)
    except EdgepackError as error:
        cell["failures"] = dict.fromkeys(("edgepack", "onnxruntime"), _words(error))
        return cell
    with userland.board(target) as board, tempfile.TemporaryDirectory(prefix="edgepack-arm-") as folder:
        for name in ("edgepack", "onnxruntime"):
            own = Path(folder, name)
            own.mkdir()
            try:
                if name == "edgepack":
                    records = _records(made, target) if tuned else None
                    measured, model = contestants.edgepack(made, target, board, own, records)
                    cell["contenders"][name] = contestants.describe(measured)
                    cell["loops"] = _loops(measured, model, target)
                else:
                    measured = contestants.onnxruntime(made, target, board, own)
                    cell["contenders"][name] = contestants.describe(measured)
            except EdgepackError as error:
                cell["failures"][name] = _words(error)
    return cell


def _words(error: EdgepackError) -> str:
    return f"{error.message}: {error.why}" if error.why else error.message


def _records(made: Artifacts, target: str) -> Path | None:
    from edgepack.run.stages.build import record_root
    from edgepack.tune.best import best_records
    from edgepack.tune.store import RecordStore

    return best_records(made.onnx, load_target(target), RecordStore(record_root(emulated=False)))


def _loops(measured: Measured, model: Path, target: str) -> list[dict[str, Any]]:
    """What llvm-mca predicts for the loops that ran and multiply, on each core that stands for the target."""
    code = loops.disassemble(model)
    candidates = (loop for kernel, body in code.items() for loop in loops.innermost(kernel, body))
    ran = [
        loop for loop in loops.weighed(candidates, measured.inference.runs, str(model)) if mca.work(loop)[1]
    ]
    straight = [loop for loop in ran if loop.straight]
    rows = []
    for core in mca.CORES[target]:
        rows += [_row(prediction, measured.inference.total) for prediction in mca.predict(straight, core)]
        rows += [
            {
                "core": core,
                "kernel": loop.kernel,
                "executed_share": loop.executed / measured.inference.total,
                "iterations": loop.iterations,
                "instructions": len(loop.body),
                "skipped": "it branches within: llvm-mca predicts straight code only",
            }
            for loop in ran
            if not loop.straight
        ]
    return rows


def _row(prediction: Prediction, total: int) -> dict[str, Any]:
    loop = prediction.loop
    return {
        "core": prediction.core,
        "model": prediction.model,
        "kernel": loop.kernel,
        "executed_share": loop.executed / total,
        "iterations": loop.iterations,
        "instructions": len(loop.body),
        "kind": prediction.kind,
        "macs": prediction.macs,
        "cycles": prediction.cycles,
        "peak_macs_per_cycle": prediction.peak,
        "share_of_peak": prediction.share,
    }


def summary(cell: dict[str, Any], core: str) -> dict[str, float] | None:
    """All predicted loops of a cell together: coverage, cycles an inference, share of the peak; None without any."""
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
