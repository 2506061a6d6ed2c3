"""The process of a contestant, in the contestant's environment: Python and numpy only.

    python -m benchmarks.peers.worker REGISTRY CONTESTANT CORES

``REGISTRY`` is ``module:attribute`` of a dict of contestants, ``CORES`` the CPUs to run on (``0,1``). Commands
come as JSON objects, one a line, on stdin; each has one answer, ``{"ok": …}`` or ``{"error": …}``, on what was
stdout at the start. Whatever libraries print goes to stderr.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LONGEST = 4000  # characters of an exception's words


def main(argv: list[str]) -> None:
    """Answer commands until stdin ends."""
    registry, name, cores = argv
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})  # before any library starts threads
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    commands = os.fdopen(os.dup(0))
    with open(os.devnull) as nothing:  # noqa: PTH123 - a descriptor is wanted
        os.dup2(nothing.fileno(), 0)
    _die_with_parent()
    served: Server | None = None
    for line in commands:
        command = json.loads(line)
        try:
            if served is None:
                served = Server(registry, name)
            answer = {"ok": served.answer(command)}
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a library raises is the answer
            answer = {"error": _told(error)}
        answers.write(json.dumps(answer, default=str) + "\n")


def _told(error: BaseException) -> dict[str, str]:
    import traceback

    from benchmarks.peers.protocol import Unsupported

    traceback.print_exception(error)  # to stderr, which is kept
    kind = "unsupported" if isinstance(error, Unsupported) else "failed"
    words = str(error).strip()
    if kind == "failed":
        words = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return {"kind": kind, "words": words[:LONGEST]}


class Server:
    """One contestant and what it has loaded."""

    def __init__(self, registry: str, name: str) -> None:
        from importlib import import_module

        module, _, attribute = registry.partition(":")
        self.contestant = getattr(import_module(module), attribute)[name]
        self.session: Any = None

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do what ``command["do"]`` says."""
        methods: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "prepare": self.prepare,
            "load": self.load,
            "run": self.run,
            "time": self.time,
            "cold": self.cold,
        }
        return methods[command["do"]](command)

    def prepare(self, command: dict[str, Any]) -> dict[str, Any]:
        """Paths of what was made, and its sizes."""
        from benchmarks.peers.protocol import size

        prepared = self.contestant.prepare(_task(command))
        return {
            "model": [str(path) for path in prepared.model],
            "runtime": [str(path) for path in prepared.runtime],
            "notes": dict(prepared.notes),
            "model_bytes": size(prepared.model),
            "runtime_bytes": size(prepared.runtime),
        }

    def load(self, command: dict[str, Any]) -> dict[str, Any]:
        """Load the model; also how long a call of a Python function takes that does nothing."""
        from statistics import median

        from benchmarks.peers.protocol import timed

        start = time.perf_counter_ns()
        self.session = self.contestant.load(_task(command), _prepared(command))
        return {
            "load_ns": time.perf_counter_ns() - start,
            "call_ns": median(timed(lambda: None, 1000)),
        }

    def run(self, command: dict[str, Any]) -> dict[str, Any]:
        """Infer every sample of ``inputs`` and compare with ``reference``."""
        from dataclasses import asdict

        from benchmarks.kit.correctness import distance, worse
        from benchmarks.peers.protocol import rows

        found = None
        for row, want in zip(rows(Path(command["inputs"])), rows(Path(command["reference"])), strict=True):
            one = distance(self.session.run(row), [want[f"output_{i}"] for i in range(len(want))])
            found = one if found is None else worse(found, one)
        if found is None:
            raise ValueError("there are no inputs to run")
        return asdict(found)

    def time(self, command: dict[str, Any]) -> dict[str, Any]:
        """``untimed`` inferences, then the nanoseconds of each of ``runs``."""
        if command["untimed"] and not getattr(self.session, "warms_up", False):
            self.session.time(command["untimed"])
        samples = [int(sample) for sample in self.session.time(command["runs"])]
        if len(samples) != command["runs"]:
            raise ValueError(f"{len(samples)} times for {command['runs']} inferences")
        return {"samples_ns": samples}

    def cold(self, command: dict[str, Any]) -> dict[str, Any]:
        """A cold start: this process's own, unless the contestant has a process of its own for inference."""
        from dataclasses import asdict

        from benchmarks.peers.protocol import rows

        ready = time.monotonic_ns()
        task, prepared = _task(command), _prepared(command)
        inputs = rows(Path(command["inputs"]))[0]
        own = getattr(self.contestant, "cold", None)
        if own is not None:
            return {**asdict(own(task, prepared, inputs)), "ready_ns": 0}
        start = time.monotonic_ns()
        session = self.contestant.load(task, prepared)
        loaded = time.monotonic_ns()
        session.run(inputs)
        return {
            "start_ns": time.monotonic_ns() - command["spawned_ns"],
            "load_ns": loaded - start,
            "peak_rss_kib": _peak_rss_kib(),
            "ready_ns": ready - command["spawned_ns"],
        }


def _task(command: dict[str, Any]) -> Any:
    from benchmarks.peers.protocol import Task

    return Task.from_json(json.dumps(command["task"]))


def _prepared(command: dict[str, Any]) -> Any:
    from benchmarks.peers.protocol import Prepared

    words = command["prepared"]
    paths = {key: tuple(Path(path) for path in words[key]) for key in ("model", "runtime")}
    return Prepared(**paths, notes=words["notes"])


def _peak_rss_kib() -> int:
    """The kernel's own count for this process, from its last exec on."""
    with open("/proc/self/status") as status:  # noqa: PTH123 - pathlib would be imported for it
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def _die_with_parent() -> None:
    """End with the benchmark however it ends; and where memory runs out, before it."""
    import ctypes
    import signal

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)
    with open("/proc/self/oom_score_adj", "w") as score:  # noqa: PTH123 - as above
        score.write("1000")


if __name__ == "__main__":
    main(sys.argv[1:])
