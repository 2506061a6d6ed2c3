"""Measure one group of the table: a net at a precision with a number of threads, all contestants together."""

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

from benchmarks.kit import places
from benchmarks.kit.correctness import Distance, Exactness
from benchmarks.kit.environments import Environment, EnvironmentFailed, environment
from benchmarks.kit.interleaving import Course, InterleavedMeasurement, TimingPlan, Warm, warm_up
from benchmarks.kit.nets import Artifacts
from benchmarks.kit.processes import ProcessFailed, WorkerProcess
from benchmarks.peers.prepare import Contestants, folder_for, prepare
from benchmarks.peers.protocol import Assignment, Cold
from benchmarks.peers.results import Cell, ContestantResult, Group
from benchmarks.peers.roofline import roofline

LIMIT_S = 300  # time limit of a load, of the compared inferences, and of a cold start
CANARIES = 3  # per reading, of which the median is used, so that a single interrupt does not count as drift


@dataclass(frozen=True)
class Settings:
    """Settings for all groups of a run."""

    registry: Contestants
    plan: TimingPlan
    canary: Callable[[], int]
    cores: tuple[int, ...]  # of this machine
    seed: int = 0
    trials: int = 256
    prepare_minutes: float = 10.0
    colds: int = 3
    fresh: bool = False
    machine: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[int, Mapping[str, Any]] = field(
        default_factory=dict
    )  # by threads, as returned by limits.measure
    commit: str | None = None
    say: Callable[[str], None] = print


@dataclass
class _Participant:
    """A contestant in the group: its entry in the results, and its process if running."""

    name: str
    entry: dict[str, Any]
    environment: Environment | None = None
    task: Assignment | None = None
    prepared: dict[str, Any] | None = None  # the result of prepare
    worker: WorkerProcess | None = None
    warm: Warm | None = None

    def out(self, phase: str, error: Exception) -> None:
        unsupported = isinstance(error, ProcessFailed) and error.unsupported
        self.fail(phase, str(error), "unsupported" if unsupported else "failed")

    def fail(self, phase: str, reason: str, status: str = "failed") -> None:
        self.entry |= {"status": status, "phase": phase, "reason": shown(reason)}
        if self.worker is not None:
            self.worker.close()

    @property
    def alive(self) -> bool:
        return self.entry["status"] == "measured"

    @property
    def words(self) -> dict[str, Any]:
        """What its process needs to load the model."""
        return {"task": asdict(self.task), "prepared": self.prepared}


class GroupRun:
    """Measures one group. Call ``prepare``, then ``measure``; they are separate because of the time budget."""

    def __init__(self, settings: Settings, net: Artifacts, names: Sequence[str], cell: Cell) -> None:
        self._settings, self._net, self._cell = settings, net, cell
        self._start = time.monotonic()
        self._when = datetime.now(UTC).isoformat(timespec="seconds")
        self._cores = settings.cores[-cell.threads :]  # on many machines the first core handles interrupts
        contestants = settings.registry.contestants
        self._all = [
            _Participant(name, {"title": contestants[name].title, "status": "measured"})
            for name in names
            if cell.precision in contestants[name].precisions or not contestants[name].alternative
        ]
        self._chance = random.Random(f"{settings.seed} {cell.key}")  # noqa: S311 - not for cryptography

    def prepare(self, deadline: float) -> None:
        """Build the environments and prepare each contestant's model, within the remaining time."""
        for one in self._all:
            left = (deadline - time.monotonic()) / 60
            try:
                self._prepare(one, max(0.5, min(self._settings.prepare_minutes, left)))
            except EnvironmentFailed as error:
                one.out("environment", error)
            except (ProcessFailed, OSError) as error:
                one.out("prepare", error)
            self._tell(one, "prepared")

    def _prepare(self, one: _Participant, minutes: float) -> None:
        settings, net, cell = self._settings, self._net, self._cell
        contestant = settings.registry.contestants[one.name]
        if cell.precision not in contestant.precisions:
            one.fail("prepare", f"has no {cell.precision} path", "unsupported")
            return
        one.environment = environment(contestant.home, contestant.requirements, places.CACHE / "environments")
        one.entry["packages"] = one.environment.packages if contestant.requirements else {}
        one.task = Assignment(
            net=net.net,
            onnx=net.onnx,
            weights=net.weights,
            calibration=net.calibration,
            precision=cell.precision,
            threads=cell.threads,
            folder=folder_for(one.name, contestant, cell),
            trials=settings.trials,
            minutes=minutes,
        )
        one.prepared = prepare(
            settings.registry, one.name, one.task, one.environment, settings.cores, fresh=settings.fresh
        )
        figures = ("model_bytes", "runtime_bytes", "prepare_seconds", "prepared_before")
        one.entry |= {name: one.prepared[name] for name in figures} | {"notes": tidy(one.prepared["notes"])}

    def measure(self) -> Group:
        """Load, compare, warm up, time, and measure cold starts."""
        affinity = os.sched_getaffinity(0)
        with ExitStack() as processes:
            for one in self._shuffle():
                self._load(one, processes)
            timed = [one for one in self._all if one.alive]
            measurement = InterleavedMeasurement(
                {one.name: one.worker for one in timed},
                {one.name: one.warm for one in timed},
                self._settings.plan,
                self._canary,
                self._chance,
            )
            try:
                course = measurement.run()
            finally:
                os.sched_setaffinity(0, affinity)
        kept = {block.contestant for block in course.blocks if block.discarded is None}
        for one in timed:
            if one.name in course.failed:
                one.fail("time", course.failed[one.name])
            elif one.name not in kept:
                one.fail("time", "no block was kept: the machine was too busy while it ran")
        self._cold_starts()
        return self._group(course)

    def _shuffle(self) -> list[_Participant]:
        alive = [one for one in self._all if one.alive]
        self._chance.shuffle(alive)
        return alive

    def _canary(self) -> tuple[int, ...]:
        readings = []
        for core in self._cores:
            os.sched_setaffinity(0, {core})
            readings.append(median_low(self._settings.canary() for _ in range(CANARIES)))
        return tuple(readings)

    def _start_worker(self, one: _Participant) -> WorkerProcess:
        return self._settings.registry.start(one.name, one.environment, self._cores, one.task.folder)

    def _load(self, one: _Participant, processes: ExitStack) -> None:
        """Start a process, load the model, compare its outputs, warm up and suspend it."""
        phase = "load"
        try:
            one.worker = processes.enter_context(self._start_worker(one))
            loaded = one.worker.ask("load", LIMIT_S, **one.words)
            phase = "run"
            if one.prepared["exact"]:  # first, because the inputs of the last run are timed
                one.entry["exactness"] = self._compare_exact(one)
            files = {"inputs": self._net.inputs, "reference": self._net.reference}
            distance = Distance(**one.worker.ask("run", LIMIT_S, **files))
            one.entry |= loaded
            one.entry |= {
                "relative_error": distance.relative,
                "cosine": distance.cosine,
                "sqnr_db": distance.sqnr_db,
            }
            if wrong := distance.wrong(self._cell.precision):
                one.fail("run", wrong, "wrong")
            else:
                phase = "warm-up"
                one.worker.settle()
                one.warm = warm_up(one.worker, self._settings.plan)
                one.entry |= {"warm_inferences": one.warm.inferences, "warm_stable": one.warm.stable}
        except ProcessFailed as error:
            one.out(phase, error)
        self._tell(one, "loaded")

    def _compare_exact(self, one: _Participant) -> Exactness:
        files = {
            "samples": self._net.calibration,
            "exact": one.prepared["exact"],
            "fp32": self._net.calibration_reference,
        }
        return Exactness(**one.worker.ask("compare_exact", LIMIT_S, **files))

    def _cold_starts(self) -> None:
        """Measure cold starts in new processes, one at a time, in a new random order for each repetition."""
        taken: dict[str, list[Cold]] = {one.name: [] for one in self._all}
        for _ in range(self._settings.colds):
            for one in self._shuffle():
                if "cold_reason" in one.entry:
                    continue
                try:
                    with self._start_worker(one) as worker:
                        words = one.words | {"inputs": self._net.inputs, "spawned_ns": worker.spawned_ns}
                        taken[one.name].append(Cold(**worker.ask("cold", LIMIT_S, **words)))
                except ProcessFailed as error:
                    one.entry["cold_reason"] = shown(str(error))
        for one in self._all:
            one.entry["cold"] = tuple(taken[one.name])

    def _group(self, course: Course) -> Group:
        settings, precision = self._settings, self._cell.precision
        limits = settings.limits.get(self._cell.threads)
        bound = None
        if limits and limits[precision]:
            bound = roofline(
                self._net.onnx,
                self._net.macs,
                precision,
                peak_gops=limits[precision]["peak"],
                bandwidth_gbs=limits["read"]["peak"],
                cache_bytes=settings.machine["cache_bytes"],
            )
        return Group(
            **asdict(self._cell),
            title=self._net.title,
            when=self._when,
            seconds=round(time.monotonic() - self._start, 1),
            command=f"make bench NETS={self._net.net}",
            commit=settings.commit,
            seed=settings.seed,
            machine=dict(settings.machine),
            plan=asdict(settings.plan),
            limits=limits,
            roofline=bound,
            canary_references_ns=tuple(course.references),
            notes=tuple(course.notes),
            entries={one.name: ContestantResult(**one.entry) for one in self._all},
            blocks=tuple(course.blocks),
        )

    def _tell(self, one: _Participant, done: str) -> None:
        entry = one.entry
        if one.alive:
            words = done
        else:
            words = f"{entry['status']} ({entry['phase']}): {entry['reason'].splitlines()[0][:200]}"
        self._settings.say(f"  {one.name:18} {words}")


def shown(text: str) -> str:
    """Remove this machine's paths from a text that is published."""
    home = str(Path.home())
    for path, word in ((str(places.CACHE), "CACHE"), (str(places.ROOT), "."), (home, "~")):
        text = text.replace(path, word) if path != "/" else text
    return text


def tidy(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a contestant's notes as JSON values, without paths of this machine, NaN and infinities."""
    text = shown(json.dumps(notes, ensure_ascii=False, default=str))
    return json.loads(text, parse_constant=lambda _: None)
