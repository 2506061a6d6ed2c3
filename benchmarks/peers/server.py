"""The process of a contestant, in the contestant's environment: only Python and numpy.

    python -m benchmarks.peers.server REGISTRY CONTESTANT

``REGISTRY`` is ``module:attribute`` of a dict of contestants. Its commands are the methods of ``ContestantServer``; the
protocol is that of ``benchmarks.kit.serving``.
"""

import sys
import time
from dataclasses import asdict
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.kit.correctness import compare_exact, distance, outputs, rows, worse
from benchmarks.kit.serving import serve, time_calls
from benchmarks.peers.protocol import Assignment, Contestant, LoadedModel, Prepared, size


class ContestantServer:
    """One contestant and its loaded model."""

    def __init__(self, registry: str, name: str) -> None:
        module, _, attribute = registry.partition(":")
        self.contestant: Contestant = getattr(import_module(module), attribute)[name]
        self.session: LoadedModel | None = None

    def prepare(self, command: dict[str, Any]) -> dict[str, Any]:
        """Prepare; returns paths and sizes of the files."""
        prepared = self.contestant.prepare(Assignment.from_json(command["task"]))
        sizes = {"model_bytes": size(prepared.model), "runtime_bytes": size(prepared.runtime)}
        return asdict(prepared) | sizes

    def load(self, command: dict[str, Any]) -> dict[str, Any]:
        """Load the model; also return the duration of an empty Python call."""
        from statistics import median  # imported here, because it would lengthen a cold start

        start = time.perf_counter_ns()
        self.session = self.contestant.load(*_parse(command))
        took = time.perf_counter_ns() - start
        return {"load_ns": took, "call_ns": median(time_calls(lambda: None, 1000))}

    def run(self, command: dict[str, Any]) -> dict[str, Any]:
        """Infer every sample of ``inputs`` and compare with ``reference``."""
        pairs = zip(rows(Path(command["inputs"])), outputs(Path(command["reference"])), strict=True)
        return asdict(reduce(worse, (distance(self.session.run(row), want) for row, want in pairs)))

    def compare_exact(self, command: dict[str, Any]) -> dict[str, Any]:
        """Infer ``samples`` and compare with the ``exact`` outputs, and those with ``fp32``."""
        files = (Path(command[name]) for name in ("samples", "exact", "fp32"))
        return asdict(compare_exact(self.session.run, *files))

    def time(self, command: dict[str, Any]) -> dict[str, Any]:
        """Run ``untimed`` inferences, then return nanoseconds of each of ``runs``."""
        if command["untimed"] and not self.session.warms_up:
            self.session.time(command["untimed"])
        samples = [int(sample) for sample in self.session.time(command["runs"])]
        if len(samples) != command["runs"]:
            raise ValueError(f"{len(samples)} times for {command['runs']} inferences")
        return {"samples_ns": samples}

    def cold(self, command: dict[str, Any]) -> dict[str, Any]:
        """Measure a cold start: of this process, unless the contestant has its own process for inference."""
        ready = time.monotonic_ns()
        task, prepared = _parse(command)
        inputs = rows(Path(command["inputs"]))[0]
        own = self.contestant.cold(task, prepared, inputs)
        if own is not None:
            return asdict(own)
        start = time.monotonic_ns()
        session = self.contestant.load(task, prepared)
        loaded = time.monotonic_ns()
        session.run(inputs)
        return {
            "start_ns": time.monotonic_ns() - command["spawned_ns"],
            "load_ns": loaded - start,
            "ready_ns": ready - command["spawned_ns"],
            "peak_rss_kib": _peak_rss_kib(),
        }


def _parse(command: dict[str, Any]) -> tuple[Assignment, Prepared]:
    words = command["prepared"]
    model, runtime = (tuple(map(Path, words[key])) for key in ("model", "runtime"))
    return Assignment.from_json(command["task"]), Prepared(model, runtime, words["notes"])


def _peak_rss_kib() -> int:
    """Return the kernel's peak RSS of this process since its last exec."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


if __name__ == "__main__":
    serve(lambda: ContestantServer(*sys.argv[1:]))
