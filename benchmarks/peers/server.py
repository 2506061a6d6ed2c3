"""The process of a contestant, in the contestant's environment: Python and numpy only.

    python -m benchmarks.peers.server REGISTRY CONTESTANT

``REGISTRY`` is ``module:attribute`` of a dict of contestants. Its commands are the methods of ``ContestantServer``; how it is
asked is ``benchmarks.kit.serving``'s.
"""

import sys
import time
from dataclasses import asdict
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.kit.correctness import compare_exact, distance, outputs, rows, worse
from benchmarks.kit.serving import serve, timed
from benchmarks.peers.protocol import Assignment, Contestant, LoadedModel, Prepared, size


class ContestantServer:
    """One contestant and what it has loaded."""

    def __init__(self, registry: str, name: str) -> None:
        module, _, attribute = registry.partition(":")
        self.contestant: Contestant = getattr(import_module(module), attribute)[name]
        self.session: LoadedModel | None = None

    def prepare(self, command: dict[str, Any]) -> dict[str, Any]:
        """Paths of what was made, and its sizes."""
        prepared = self.contestant.prepare(Assignment.from_json(command["task"]))
        sizes = {"model_bytes": size(prepared.model), "runtime_bytes": size(prepared.runtime)}
        return asdict(prepared) | sizes

    def load(self, command: dict[str, Any]) -> dict[str, Any]:
        """Load the model; also how long a call of a Python function takes that does nothing."""
        from statistics import median  # here, as it would make a cold start longer

        start = time.perf_counter_ns()
        self.session = self.contestant.load(*_given(command))
        took = time.perf_counter_ns() - start
        return {"load_ns": took, "call_ns": median(timed(lambda: None, 1000))}

    def run(self, command: dict[str, Any]) -> dict[str, Any]:
        """Infer every sample of ``inputs`` and compare with ``reference``."""
        pairs = zip(rows(Path(command["inputs"])), outputs(Path(command["reference"])), strict=True)
        return asdict(reduce(worse, (distance(self.session.run(row), want) for row, want in pairs)))

    def compare_exact(self, command: dict[str, Any]) -> dict[str, Any]:
        """Infer ``samples`` and compare with the ``exact`` outputs, and those with ``fp32``'s."""
        files = (Path(command[name]) for name in ("samples", "exact", "fp32"))
        return asdict(compare_exact(self.session.run, *files))

    def time(self, command: dict[str, Any]) -> dict[str, Any]:
        """``untimed`` inferences, then the nanoseconds of each of ``runs``."""
        if command["untimed"] and not self.session.warms_up:
            self.session.time(command["untimed"])
        samples = [int(sample) for sample in self.session.time(command["runs"])]
        if len(samples) != command["runs"]:
            raise ValueError(f"{len(samples)} times for {command['runs']} inferences")
        return {"samples_ns": samples}

    def cold(self, command: dict[str, Any]) -> dict[str, Any]:
        """A cold start: this process's own, unless the contestant has a process of its own for inference."""
        ready = time.monotonic_ns()
        task, prepared = _given(command)
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


def _given(command: dict[str, Any]) -> tuple[Assignment, Prepared]:
    words = command["prepared"]
    model, runtime = (tuple(map(Path, words[key])) for key in ("model", "runtime"))
    return Assignment.from_json(command["task"]), Prepared(model, runtime, words["notes"])


def _peak_rss_kib() -> int:
    """The kernel's own count for this process, from its last exec on."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


if __name__ == "__main__":
    serve(lambda: ContestantServer(*sys.argv[1:]))
