"""One group of the table: a net at a precision with a number of threads, all contestants at once."""

import json
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median_low
from typing import Any

from benchmarks.kit.correctness import Distance
from benchmarks.kit.environments import Environment, EnvironmentFailed, environment
from benchmarks.kit.interleaving import Measurement, Plan, Turn, Warm, warm_up
from benchmarks.kit.nets import Artifacts
from benchmarks.kit.places import CACHE, ROOT
from benchmarks.kit.processes import Worker, WorkerFailed
from benchmarks.peers.prepare import Made, Registry, folder_for, prepare
from benchmarks.peers.protocol import Task
from benchmarks.peers.results import Block, ColdStart, Entry, Group, Roofline, jsonable, key

LOAD_LIMIT_S = 300
RUN_LIMIT_S = 300
COLD_LIMIT_S = 300
CANARIES = 3  # for a reading, their median: an interrupt in one of them is no drift


@dataclass(frozen=True)
class Settings:
    """What holds for all groups of a run."""

    registry: Registry
    plan: Plan
    canary: Callable[[], int]
    cores: tuple[int, ...]  # those of this machine
    seed: int = 0
    trials: int = 256
    prepare_minutes: float = 10.0
    colds: int = 3
    fresh: bool = False
    cache: Path = CACHE
    machine: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)  # threads: Limits.to_json()
    commit: str | None = None
    say: Callable[[str], None] = print


@dataclass
class _Runner:
    """A contestant in the group: the entry it will have, and its process while there is one."""

    name: str
    entry: dict[str, Any]
    environment: Environment | None = None
    task: Task | None = None
    made: Made | None = None
    worker: Worker | None = None
    warm: Warm | None = None

    def out(self, phase: str, error: Exception) -> None:
        unsupported = isinstance(error, WorkerFailed) and error.unsupported
        self.fail(phase, str(error), "unsupported" if unsupported else "failed")

    def fail(self, phase: str, reason: str, status: str = "failed") -> None:
        self.entry |= {"status": status, "phase": phase, "reason": shown(reason)}
        if self.worker is not None:
            self.worker.close()

    @property
    def alive(self) -> bool:
        return self.entry["status"] == "measured"

    # What the schedule asks of a subject.

    def resume(self) -> None:
        self.worker.resume()

    def stop(self) -> None:
        self.worker.stop()

    def time(self, untimed: int, runs: int, timeout_s: float) -> list[int]:
        samples: list[int] = self.worker.ask("time", timeout_s, untimed=untimed, runs=runs)["samples_ns"]
        return samples


class GroupRun:
    """Measures one group. ``prepare`` first, then ``measure``; each is of use alone for the budget."""

    def __init__(
        self, settings: Settings, net: Artifacts, names: Sequence[str], precision: str, threads: int
    ) -> None:
        self._settings, self._net = settings, net
        self._precision, self._threads = precision, threads
        self._start = time.monotonic()
        self._when = datetime.now(UTC).isoformat(timespec="seconds")
        self._cores = settings.cores[-threads:]  # the first core serves interrupts on many machines
        self.key = key(net.net, precision, threads)
        contestants = settings.registry.contestants
        self._runners = [
            _Runner(name, {"title": contestants[name].title, "status": "measured"}) for name in names
        ]
        self._chance = random.Random(f"{settings.seed} {self.key}")  # noqa: S311 - an order, no secret

    def prepare(self, deadline: float) -> None:
        """Environments, and what each contestant makes of the net; none takes longer than is left."""
        for runner in self._runners:
            left = (deadline - time.monotonic()) / 60
            try:
                self._prepare(runner, max(0.5, min(self._settings.prepare_minutes, left)))
            except EnvironmentFailed as error:
                runner.out("environment", error)
            except (WorkerFailed, OSError) as error:
                runner.out("prepare", error)
            self._tell(runner, "prepared")

    def _prepare(self, runner: _Runner, minutes: float) -> None:
        settings = self._settings
        contestant = settings.registry.contestants[runner.name]
        if self._precision not in contestant.precisions:
            runner.fail("prepare", f"has no {self._precision} path", "unsupported")
            return
        runner.environment = environment(
            runner.name, contestant.requirements, settings.cache / "environments"
        )
        runner.entry["packages"] = runner.environment.packages if contestant.requirements else {}
        folder = folder_for(
            settings.cache,
            runner.name,
            contestant,
            self._net.net,
            precision=self._precision,
            threads=self._threads,
        )
        runner.task = Task(
            net=self._net.net,
            onnx=self._net.onnx,
            weights=self._net.weights,
            calibration=self._net.calibration,
            precision=self._precision,
            threads=self._threads,
            folder=folder,
            trials=settings.trials,
            minutes=minutes,
        )
        runner.made = prepare(
            settings.registry,
            runner.name,
            runner.task,
            runner.environment,
            settings.cores,
            fresh=settings.fresh,
        )
        runner.entry |= {
            "model_bytes": runner.made.model_bytes,
            "runtime_bytes": runner.made.runtime_bytes,
            "prepare_seconds": runner.made.seconds,
            "prepared_before": runner.made.before,
            "notes": tidy(runner.made.prepared["notes"]),
        }

    def measure(self, roofline: Roofline | None = None) -> Group:
        """Load, compare, warm up, time, and start from cold."""
        affinity = os.sched_getaffinity(0)
        with ExitStack() as processes:
            for runner in self._shuffled():
                self._load(runner, processes)
            subjects = {runner.name: runner for runner in self._runners if runner.alive}
            warm = {name: runner.warm for name, runner in subjects.items() if runner.warm is not None}
            measurement = Measurement(subjects, warm, self._settings.plan, self._canary, self._chance)
            try:
                course = measurement.run()
            finally:
                os.sched_setaffinity(0, affinity)
        for runner in self._runners:
            if runner.name in course.failed:
                runner.fail("time", course.failed[runner.name])
            elif runner.alive and not _kept(course.turns, runner.name):
                runner.fail("time", "no block was kept: the machine was not quiet while it ran")
        self._cold_starts()
        return self._group(roofline, course.turns, course.references, course.notes)

    def _shuffled(self) -> list[_Runner]:
        runners = [runner for runner in self._runners if runner.alive]
        self._chance.shuffle(runners)
        return runners

    def _canary(self) -> tuple[int, ...]:
        readings = []
        for core in self._cores:
            os.sched_setaffinity(0, {core})
            readings.append(median_low(self._settings.canary() for _ in range(CANARIES)))
        return tuple(readings)

    def _start_worker(self, runner: _Runner) -> Worker:
        return Worker(
            runner.environment.python,
            self._settings.registry.reference,
            runner.name,
            cores=self._cores,
            folder=runner.task.folder,
            paths=self._settings.registry.paths,
        )

    @staticmethod
    def _words(runner: _Runner) -> dict[str, Any]:
        return {"task": json.loads(runner.task.to_json()), "prepared": runner.made.prepared}

    def _load(self, runner: _Runner, processes: ExitStack) -> None:
        """A process with the model loaded, its outputs compared, warm and stopped."""
        phase = "load"
        try:
            runner.worker = processes.enter_context(self._start_worker(runner))
            loaded = runner.worker.ask("load", LOAD_LIMIT_S, **self._words(runner))
            phase = "run"
            files = {"inputs": self._net.inputs, "reference": self._net.reference}
            found = Distance(**runner.worker.ask("run", RUN_LIMIT_S, **files))
            runner.entry |= {
                **loaded,
                "relative_error": found.relative,
                "cosine": found.cosine,
                "sqnr_db": found.sqnr_db,
            }
            wrong = found.wrong(self._precision)
            if wrong is not None:
                runner.fail("run", wrong, "wrong")
            else:
                phase = "warm-up"
                runner.worker.settle()
                runner.warm = warm_up(runner, self._settings.plan)
                runner.entry |= {
                    "warm_inferences": runner.warm.inferences,
                    "warm_stable": runner.warm.stable,
                }
        except WorkerFailed as error:
            runner.out(phase, error)
        self._tell(runner, "loaded")

    def _cold_starts(self) -> None:
        """Fresh processes, one at a time, in a new random order each time around."""
        taken: dict[str, list[ColdStart]] = {runner.name: [] for runner in self._runners}
        for _ in range(self._settings.colds):
            for runner in self._shuffled():
                if "cold_reason" in runner.entry:
                    continue
                try:
                    taken[runner.name].append(self._cold_start(runner))
                except WorkerFailed as error:
                    runner.entry["cold_reason"] = shown(str(error))
        for runner in self._runners:
            runner.entry["cold"] = tuple(taken[runner.name])

    def _cold_start(self, runner: _Runner) -> ColdStart:
        with self._start_worker(runner) as worker:
            words = self._words(runner) | {"inputs": self._net.inputs, "spawned_ns": worker.spawned_ns}
            return ColdStart(**worker.ask("cold", COLD_LIMIT_S, **words))

    def _group(
        self,
        roofline: Roofline | None,
        turns: Sequence[Turn],
        references: Sequence[tuple[int, ...]],
        notes: Sequence[str],
    ) -> Group:
        settings = self._settings
        limits = settings.limits.get(self._threads)
        return Group(
            net=self._net.net,
            title=self._net.title,
            precision=self._precision,
            threads=self._threads,
            when=self._when,
            seconds=round(time.monotonic() - self._start, 1),
            command=f"make bench NETS={self._net.net}",
            commit=settings.commit,
            seed=settings.seed,
            machine=dict(settings.machine),
            plan=asdict(settings.plan),
            limits=None if limits is None else dict(limits),
            roofline=roofline,
            canary_references_ns=tuple(references),
            notes=tuple(notes),
            entries={runner.name: Entry(**runner.entry) for runner in self._runners},
            blocks=tuple(Block(**vars(turn)) for turn in turns),
        )

    def _tell(self, runner: _Runner, done: str) -> None:
        entry = runner.entry
        if runner.alive:
            words = done
        else:
            words = f"{entry['status']} ({entry['phase']}): {entry['reason'].splitlines()[0][:200]}"
        self._settings.say(f"  {runner.name:18} {words}")


def _kept(turns: Sequence[Turn], name: str) -> int:
    return sum(turn.contestant == name and turn.discarded is None for turn in turns)


def shown(text: str) -> str:
    """Without the paths of this machine, for a file that others read."""
    home = str(Path.home())
    for path, word in ((str(CACHE), "CACHE"), (str(ROOT), "."), (home, "~")):
        text = text.replace(path, word) if path != "/" else text
    return text


def tidy(notes: Mapping[str, Any]) -> dict[str, Any]:
    """A contestant's notes as JSON values, without the paths of this machine."""
    return json.loads(shown(json.dumps(jsonable(notes), ensure_ascii=False)))
