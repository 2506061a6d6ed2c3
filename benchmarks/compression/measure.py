"""Run a cell through edgepack, up to its bundle, and collect the figures."""

import base64
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.compression.cells import SECOND_TEACHER, SECOND_WEIGHTS, CompressionCell, seeded
from benchmarks.compression.nets import NETS, recipe
from edgepack import api
from edgepack.engine.events import ignore
from edgepack.engine.store import Store
from edgepack.errors import EdgepackError
from edgepack.reporting.document import Report
from edgepack.spec.candidate import RELEASE
from edgepack.spec.runtime import WEIGHTS_SUFFIX

Figures = dict[str, Any]


def measure(cell: CompressionCell, seed: int, listener: Callable[[Any], None] = ignore) -> Figures:
    """Build the bundle of ``cell``, trained and compressed from ``seed``.

    Stages that earlier cells or interrupted runs have done are taken from edgepack's cache.

    Returns the figures: ``score`` and its interval in onnxruntime, ``robust`` (mean under corruption) and ``fgsm`` after
    the last step that has them, ``weights`` and ``raw`` (bytes of the weights file, and before entropy coding),
    ``parameters``, ``nonzeros``, ``macs``, ``steps`` (the metric after each) and, for students, ``right`` (which test samples,
    packed bits as base64); or ``error``.
    """
    started = time.monotonic()
    try:
        figures = _figures(cell, seed, listener)
    except EdgepackError as error:
        figures = {"error": error.render()}
    return {"seed": seed, "seconds": round(time.monotonic() - started, 1), **figures}


def _figures(cell: CompressionCell, seed: int, listener: Callable[[Any], None]) -> Figures:
    steps = seeded(cell, seed)
    with tempfile.TemporaryDirectory(prefix="edgepack-benchmark-") as folder:
        if any("teachers" in step for step in steps):
            Path(folder, SECOND_WEIGHTS).write_bytes(_second_teacher(seed, listener))
        path = Path(folder, "recipe.yaml")
        path.write_text(yaml.safe_dump(recipe(NETS[cell.net], seed, steps)))
        report, bundles = api.build(path, out=Path(folder, "out"), listener=listener)
        if report.errors:
            failed = report.errors[0]
            raise EdgepackError(failed.message, where=failed.where, why=failed.why, next=failed.next)
        (bundle,) = bundles
        manifest = api.inspect(bundle)
    (weights,) = (file.size for file in manifest.files if file.path.endswith(WEIGHTS_SUFFIX))
    (row,) = (row for row in report.rows if row.candidate == RELEASE)
    score = row.score_onnxruntime
    if score is None:
        raise EdgepackError("the run has no metric", where=cell.name)
    robust = [each.robustness for each in report.compression if each.robustness is not None]
    attacked = [each.fgsm.value for each in robust if each.fgsm is not None]
    return {
        "score": score.value,
        "low": score.low,
        "high": score.high,
        "robust": None if row.robust is None else row.robust.value,
        "fgsm": attacked[-1] if attacked else None,
        "weights": weights,
        "raw": sum(each.raw_bytes or each.stored_bytes for each in manifest.constants),
        "parameters": row.parameters,
        "nonzeros": row.nonzeros,
        "macs": row.macs,
        "steps": {each.stage: each.score.value for each in report.compression if each.score is not None},
        **({"right": _right(report)} if cell.group == "students" else {}),
    }


def _second_teacher(seed: int, listener: Callable[[Any], None]) -> bytes:
    """The trained weights of the second teacher."""
    net = NETS[SECOND_TEACHER]
    with tempfile.TemporaryDirectory(prefix="edgepack-benchmark-") as folder:
        path = Path(folder, "recipe.yaml")
        path.write_text(yaml.safe_dump(recipe(net, seed, [])))
        report = api.compress(path, listener=listener)
    return _artifact(report, "train", "checkpoint").read_bytes()


def _right(report: Report) -> str:
    """Which test samples onnxruntime answers right: packed bits, as base64."""
    with np.load(_artifact(report, "evaluate", "samples")) as saved:
        answers = saved["output_0"].reshape(len(saved["output_0"]), -1).argmax(axis=1)
        right = answers == saved["target_0"].reshape(-1)
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def unpacked(right: str, samples: int) -> np.ndarray:
    """The inverse of what ``measure`` returns as ``right``: ``[samples]``, bool."""
    return np.unpackbits(np.frombuffer(base64.b64decode(right), np.uint8), count=samples).astype(bool)


def _artifact(report: Report, stage: str, kind: str) -> Path:
    found = [
        artifact
        for outcome in report.stages
        if outcome.stage == stage
        for artifact in outcome.artifacts
        if artifact.kind == kind
    ]
    if not found:
        raise EdgepackError(
            f"the run has no {kind} of the stage {stage}", where="; ".join(e.message for e in report.errors)
        )
    return Store().path(found[-1])
