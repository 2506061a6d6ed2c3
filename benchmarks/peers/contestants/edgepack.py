"""edgepack as its users run it: a recipe, tuning on a board, a bundle, and the bundle's agent.

The board is this machine, as the virtual board ``host``. Tuning records are in one store next to the cells'
folders, so that a kernel shared by two nets is tuned once, and a second run reuses earlier trials.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kit.agent import answers, command, save_inputs
from benchmarks.peers.protocol import Assignment, Cold, Contestant, LoadedModel, Prepared, Unsupported

_BUNDLE = "bundle"  # the unpacked bundle, in the task's folder
_TUNING_SHARE = 0.9  # of the minutes; the rest is for compiling
_CANNOT = ("InputError", "UnsupportedError")  # of edgepack.errors: the model is not supported
_WARMUP_S = 0.1
_WARMUP_RUNS = (3, 20_000)  # minimum and maximum


class Edgepack(Contestant):
    """The release bundle, timed by its own agent."""

    title = "edgepack"

    def prepare(self, task: Assignment) -> Prepared:
        """Run a recipe up to its bundle, and unpack it."""
        from edgepack import api
        from edgepack.bundle import layout

        records = task.folder.parent / "edgepack-records"
        os.environ["XDG_DATA_HOME"] = str(records)  # where edgepack stores records
        onnx, notes = task.onnx, {}
        if task.precision == "int8":
            onnx, notes = _quantize(task)
        recipe = task.folder / "recipe.yaml"
        recipe.write_text(json.dumps(_recipe(task, onnx), indent=1), encoding="utf-8")
        report, bundles = api.build(recipe, out=task.folder)
        for error in report.errors:
            words = f"{error.stage or 'build'}: {error.message}" + (f": {error.why}" if error.why else "")
            raise Unsupported(words) if error.type in _CANNOT else RuntimeError(words)
        unpacked = task.folder / _BUNDLE
        shutil.rmtree(unpacked, ignore_errors=True)
        api.extract(bundles[0], unpacked)
        return Prepared(
            model=tuple(sorted((unpacked / layout.model("")).iterdir())),
            runtime=(unpacked / layout.AGENT, *sorted((unpacked / layout.library("")).glob("*"))),
            notes={**notes, "bundle_bytes": bundles[0].stat().st_size, **_notes(report)},
            exact=onnx if task.precision == "int8" else None,
        )

    def load(self, task: Assignment, prepared: Prepared) -> LoadedModel:  # noqa: ARG002 - all is in the folder
        """Load nothing: each block of runs is an agent process."""
        return AgentSession(task)

    def cold(self, task: Assignment, prepared: Prepared, inputs: Mapping[str, np.ndarray]) -> Cold:  # noqa: ARG002
        """Start the agent and wait for the line it writes after the first inference."""
        session = AgentSession(task)
        session.feed(inputs)
        argv = session.bench(warmup=0, runs=1)
        began = time.perf_counter_ns()
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as agent:
            first = agent.stdout.readline()
            took = time.perf_counter_ns() - began
            rest = agent.stdout.read()
        start, *_, end = answers(first + rest, agent.returncode)
        load_ns = round(start["load_ms"] * 1e6)
        return Cold(start_ns=took, load_ns=load_ns, peak_rss_kib=end["peak_rss_kib"])


class AgentSession(LoadedModel):
    """Runs and times a bundle's model with its agent.

    The agent has no resident mode: a block of runs is a process that loads the model, warms up for
    ``_WARMUP_S`` seconds, and then takes samples with its own clock. Start-up is in no sample.
    """

    warms_up = True

    def __init__(self, task: Assignment) -> None:
        self._threads = task.threads
        self._bundle = task.folder / _BUNDLE
        self._scratch = task.folder / f"session-{task.threads}"  # others may be loaded at the same time
        self._inputs: list[str] = []
        self._warmup = 0

    def feed(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Write the inputs to files, in the order of the bundle's manifest."""
        from edgepack.bundle import layout

        manifest = json.loads((self._bundle / layout.MANIFEST).read_text(encoding="utf-8"))
        self._scratch.mkdir(exist_ok=True)
        self._inputs = save_inputs(self._scratch, [tensor["name"] for tensor in manifest["inputs"]], inputs)

    def bench(self, *, warmup: int, runs: int) -> list[str]:
        """Return the command, pinned to the cores of this process, as for every contestant."""
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        return [*self._command("bench"), "--cores", cores, "--warmup", str(warmup), "--runs", str(runs)]

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run one inference in a separate process."""
        self.feed(inputs)
        (answer,) = _ask([*self._command("run"), "--output-dir", str(self._scratch)])
        return [np.load(self._scratch / f"output-{i}.npy") for i in range(len(answer["outputs"]))]

    def time(self, runs: int) -> list[int]:
        """Return the agent's samples, after a warm-up whose length depends on the latency."""
        if not self._warmup:
            fastest = min(self._samples(warmup=1, runs=3))
            least, most = _WARMUP_RUNS
            self._warmup = min(max(least, round(_WARMUP_S * 1e9 / fastest)), most)
        return self._samples(warmup=self._warmup, runs=runs)

    def _samples(self, *, warmup: int, runs: int) -> list[int]:
        _, *samples, _ = _ask(self.bench(warmup=warmup, runs=runs))
        return [sample["ns"] for sample in samples]

    def _command(self, do: str) -> list[str]:
        from edgepack.bundle import layout

        (model,) = (self._bundle / layout.model("")).glob("*.so")  # its weights file stands beside it
        return command(self._bundle / layout.AGENT, do, model, self._inputs, self._threads)


def _ask(argv: Sequence[str]) -> list[dict[str, Any]]:
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=False)
    return answers(done.stdout, done.returncode)


def _recipe(task: Assignment, onnx: Path) -> dict[str, Any]:
    """Return a recipe as a user would write it."""
    tune = {"trials": task.trials, "minutes": _TUNING_SHARE * task.minutes}
    return {
        "edgepack": 1,
        "name": f"{task.net}-{task.precision}",
        "model": {"onnx": str(onnx.resolve())},
        **({"tune": tune} if task.trials else {}),  # without trials, minutes alone would be a budget
        "bench": {"baseline": False},
        "targets": [{"target": _target(), "device": "virtual:host"}],
    }


def _target() -> str:
    """Return the highest shipped target that this CPU supports."""
    from edgepack.config import host
    from edgepack.config.target import target_names

    level, shipped = host.describe()["tvm"].get("mcpu"), target_names()
    if level not in shipped:
        raise Unsupported(f"edgepack ships no target for this CPU, which is {level}: {', '.join(shipped)}")
    return level


def _quantize(task: Assignment) -> tuple[Path, dict[str, Any]]:
    """Run the recipe step quantize-static, on the calibration data of all contestants."""
    from edgepack.compression import Context, quantize_static
    from edgepack.data import Splits
    from edgepack.errors import InputError

    with np.load(task.calibration, allow_pickle=False) as arrays:
        samples = arrays[arrays.files[0]]
    x = samples.reshape(-1, *samples.shape[2:])  # a data set has no batch axis
    y = np.zeros(len(x), np.int64)  # calibration does not use labels
    step = quantize_static.QuantizeStatic(method="quantize-static", samples=len(x))
    out = task.folder / "quantized.onnx"
    try:
        metrics = quantize_static.apply(task.onnx, out, step, Context(inputs=(), data=Splits(x, y, x, y)))
    except InputError as error:
        raise Unsupported(f"quantize-static: {error.message}") from error
    counts = f"{metrics['quantized']} of {metrics['quantized'] + metrics['float']} weighted nodes"
    return out, {"quantization": f"quantize-static: {counts} in Q/DQ form"}


def _notes(report: Any) -> dict[str, Any]:
    """Return figures of tuning, and the target."""
    notes = {"target": report.rows[0].target, "tvm": report.tools.get("apache-tvm")}
    for tuning in report.tuning:
        notes |= {
            "trials": tuning.trials,
            "tuning_seconds": round(tuning.seconds, 1),
            "kernels": len(tuning.kernels),
            "kernels_tuned": sum(kernel.tuned for kernel in tuning.kernels),
            "tuned_share": round(tuning.tuned_share or 0.0, 3),
        }
    return notes
