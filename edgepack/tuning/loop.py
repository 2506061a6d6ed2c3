"""The tuning loop: the next kernel is searched while one batch is built and measured.

    main thread:    choose a kernel -> search candidates -> submit ... collect -> learn
    build server:                                           build, link
    runner thread:                                                      -> board -> record appended

Each batch includes a timing of its kernel's fallback schedule, so that both are measured under the same
conditions; the spread of these timings is the noise by which a candidate must be faster.

Records are written to disk before they are used for learning, so that no measurement is lost if this process or the
board fails.
"""

import itertools
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgepack.base.temporary import temporary_folder
from edgepack.config.target import Target
from edgepack.errors import EdgepackError
from edgepack.tuning.builder import Builder, Built
from edgepack.tuning.events import (
    BatchMeasured,
    CandidateMeasured,
    ConnectionLost,
    Phase,
    PhaseEnded,
    Reconnected,
    Span,
    TuneEvent,
    UntunedMeasured,
)
from edgepack.tuning.journal import Journal
from edgepack.tuning.result import CurvePoint, StopReason
from edgepack.tuning.runner import KernelCandidate, Measured
from edgepack.tuning.search import DEAD_S, Task, choose

_IN_FLIGHT = 2  # batches: one being built and measured, one waiting


class Measurer(Protocol):
    """Interface for measuring candidates, implemented by ``BoardRunner``."""

    @property
    def failure(self) -> EdgepackError | None:
        """The error that stopped it, if any."""

    @property
    def shares_host(self) -> bool:
        """Whether the board is this machine, so that search and builds must not use its measuring cores."""

    def start(
        self, results: Callable[[Measured], None], notices: Callable[[ConnectionLost | Reconnected], None]
    ) -> None:
        """Connect; the callbacks are called from another thread."""

    def submit(self, candidate: KernelCandidate) -> None:
        """Queue one candidate."""

    def close(self) -> None:
        """Stop; unmeasured candidates are reported as ``lost``."""


@dataclass(eq=False)
class CandidateBatch:
    """Candidates of one kernel being measured; ``seconds`` is filled as results arrive."""

    task: Task
    candidates: list[Any]
    trials: bool = True  # False: a timing of the fallback schedule, which is neither a trial nor recorded
    seconds: dict[int, float | None] = field(default_factory=dict)  # by position; None: not measured
    errors: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether all results have arrived."""
        return len(self.seconds) == len(self.candidates)

    def take(self, position: int, measured: Measured) -> None:
        """Store one result."""
        self.seconds[position] = None if measured.lost else min(measured.ms, default=1000 * DEAD_S) / 1000
        if measured.error is not None:
            self.errors.append(measured.error)


@dataclass(frozen=True)
class Job:
    """The candidate that a result belongs to."""

    batch: CandidateBatch
    position: int
    file: Path
    arguments: tuple[str, ...]


@dataclass
class Budget:
    """Limits of a run: total trials of this model, minutes of this run, and trials without improvement.

    A kernel is no longer searched if its last ``patience`` batches gained less than the noise; 0 disables this.
    """

    trials: int | None
    minutes: float | None
    patience: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds since the start of this run."""
        return time.monotonic() - self.began

    def out_of_time(self) -> bool:
        """Whether the time limit is reached."""
        return self.minutes is not None and self.seconds >= 60 * self.minutes

    def seconds_left(self, trials: int, new: int) -> float | None:
        """Seconds until the first limit is reached, at the current rate."""
        limits = []
        if self.minutes is not None:
            limits.append(60 * self.minutes - self.seconds)
        if self.trials is not None and new:
            limits.append((self.trials - trials) * self.seconds / new)
        return max(0.0, min(limits)) if limits else None


class Loop:
    """One tuning run over the kernels of one model."""

    def __init__(
        self,
        tasks: list[Task],
        *,
        target: Target,
        journal: Journal,
        runner: Measurer,
        budget: Budget,
        batch: int,
        build_workers: int,
        emulated_gpu: Path | None = None,
        progress: Callable[[TuneEvent], None],
        interrupt_point: Callable[[], None] = lambda: None,
    ) -> None:
        self.tasks = tasks
        self.curve: list[CurvePoint] = []
        self.errors: Counter[str] = Counter()
        self.new_trials = 0
        self._target = target
        self._journal = journal
        self._runner = runner
        self._budget = budget
        self._batch = batch
        self._build_workers = build_workers
        self._emulated_gpu = emulated_gpu
        self._progress = progress
        self._interrupt_point = interrupt_point  # raises KeyboardInterrupt after Ctrl-C
        self._ids = itertools.count()
        self._jobs: dict[int, Job] = {}
        self._jobs_lock = threading.Lock()
        self._done: queue.SimpleQueue[tuple[CandidateBatch, int, Measured]] = queue.SimpleQueue()
        self._batches: list[CandidateBatch] = []
        self._fallbacks: dict[str, Job] = {}  # by workload, once built

    def run(self) -> StopReason:
        """Run until the budget is used, no kernel improves any more, or there are no new candidates.

        Raises:
            UnreachableError: The board did not come back.
            KeyboardInterrupt: Ctrl-C; all measurements are recorded.
        """
        with temporary_folder(prefix="edgepack-tune-") as scratch:
            self._scratch = Path(scratch)
            try:
                with Builder(
                    self._built, self._target, workers=self._build_workers, emulated_gpu=self._emulated_gpu
                ) as self._builder:
                    try:
                        self._runner.start(self._measured, self._progress)
                        self._measure_untuned()
                        return self._search()
                    finally:
                        self._runner.close()
            finally:
                self._abandon()

    @property
    def trials(self) -> int:
        """Measured candidates of this model, including earlier runs."""
        return sum(task.trials for task in self.tasks)

    def predicted_s(self) -> float:
        """Seconds per inference in the kernels, if compiled now."""
        return sum(task.weight * task.now_s for task in self.tasks)

    def tuned_share(self) -> float:
        """Share (0..1) of ``predicted_s`` in tuned kernels."""
        tuned = sum(task.weight * task.now_s for task in self.tasks if task.tuned)
        return tuned / self.predicted_s() if self.tasks else 0.0

    def _measure_untuned(self) -> None:
        """Time the fallback schedule of every kernel without earlier timings: two rounds over all kernels."""
        untimed = [task for task in self.tasks if task.workload not in self._journal.untuned]
        for task in untimed:
            self._time_fallback(task)
        again = []
        for count in range(1, len(untimed) + 1):
            batch, _, measured = self._next()
            seconds = min(measured.ms) / 1000 if measured.ms else self._target.tune.timeout_s
            self._journal.add_untuned(batch.task, seconds)
            self._progress(UntunedMeasured(count, len(untimed)))
            if measured.ms and not self._budget.out_of_time():
                again.append(batch.task)
        for task in again:
            self._time_fallback(task)
        for _ in again:
            batch, _, measured = self._next()
            self._timed(batch.task, measured)
        self._mark()

    def _time_fallback(self, task: Task) -> None:
        """Submit a timing of a kernel's fallback, which is built the first time."""
        known = self._fallbacks.get(task.workload)
        if known is None:
            self._submit(CandidateBatch(task, [self._journal.fallback(task)], trials=False))
            return
        number = next(self._ids)
        with self._jobs_lock:
            self._jobs[number] = known
        self._measure(number, known)

    def _timed(self, task: Task, measured: Measured) -> None:
        if measured.ms:
            self._journal.add_untuned(task, min(measured.ms) / 1000)

    def _search(self) -> StopReason:
        while True:
            self._interrupt_point()
            if self._budget.out_of_time():
                return "minutes"
            pending = sum(len(b.candidates) for b in self._batches)
            left = self._batch if self._budget.trials is None else self._budget.trials - self.trials - pending
            if left <= 0 and not self._batches:
                return "trials"
            patience = self._budget.patience
            task = choose(self.tasks, patience) if left > 0 and len(self._batches) < _IN_FLIGHT else None
            if task is None and not self._batches:
                return "settled" if any(task.settled(patience) for task in self.tasks) else "exhausted"
            if task is not None:
                began = time.monotonic()
                candidates = task.generate(min(self._batch, left))
                self._ended("search", Span(began, time.monotonic()))
                if candidates:
                    self._submit_batch(CandidateBatch(task, candidates))
            self._collect(wait=task is None)

    def _submit_batch(self, batch: CandidateBatch) -> None:
        batch.task.busy = True
        self._batches.append(batch)
        self._time_fallback(batch.task)
        self._submit(batch)

    def _submit(self, batch: CandidateBatch) -> None:
        for position, candidate in enumerate(batch.candidates):
            number = next(self._ids)
            file = self._scratch / f"{'candidate' if batch.trials else 'fallback'}-{number}"
            arguments = tuple(_argument(info) for info in candidate.args_info)
            with self._jobs_lock:
                self._jobs[number] = Job(batch, position, file, arguments)
            self._builder.submit(number, candidate.sch.mod, file)

    def _built(self, built: Built) -> None:
        """Called from the builder's thread: submit the candidate to the runner, or record the failure."""
        self._ended("build", built.span)
        if built.error is not None or built.lost:
            self._measured(Measured(built.id, error=built.error, lost=built.lost))
            return
        with self._jobs_lock:
            job = self._jobs[built.id]
        if not job.batch.trials:
            self._fallbacks[job.batch.task.workload] = job
        self._measure(built.id, job)

    def _measure(self, number: int, job: Job) -> None:
        self._runner.submit(KernelCandidate(number, job.file, "main", job.arguments))

    def _measured(self, measured: Measured) -> None:
        """Called from the runner's thread: write the record to disk immediately."""
        self._ended("transfer", measured.transfer)
        self._ended("measure", measured.measure)
        with self._jobs_lock:
            job = self._jobs.pop(measured.id)
        if job.batch.trials:  # a fallback's file is reused
            job.file.unlink(missing_ok=True)
        if job.batch.trials and not measured.lost:
            self._journal.append(job.batch.task, job.batch.candidates[job.position], measured)
            least = min(measured.ms, default=None)
            self._progress(CandidateMeasured(job.batch.task.workload, self._budget.seconds, least))
        self._done.put((job.batch, job.position, measured))

    def _next(self) -> tuple[CandidateBatch, int, Measured]:
        """Return the next result.

        Raises:
            EdgepackError: The runner failed.
        """
        while True:
            self._interrupt_point()
            if self._runner.failure:
                raise self._runner.failure
            try:
                return self._done.get(timeout=1.0)
            except queue.Empty:
                continue

    def _collect(self, *, wait: bool) -> None:
        """Process available results; with ``wait``, until a batch is complete or time is up."""
        while self._batches:
            if wait and not self._budget.out_of_time():
                answer = self._next()
            else:
                try:
                    answer = self._done.get(block=False)
                except queue.Empty:
                    return
            batch, position, measured = answer
            if not batch.trials:
                self._timed(batch.task, measured)
                continue
            batch.take(position, measured)
            if batch.complete:
                self._finish(batch)
                wait = False

    def _finish(self, batch: CandidateBatch) -> None:
        self._batches.remove(batch)
        task = batch.task
        task.busy = False
        answers = [(candidate, batch.seconds.get(i)) for i, candidate in enumerate(batch.candidates)]
        known = [(candidate, seconds) for candidate, seconds in answers if seconds is not None]
        for candidate, seconds in known:
            task.add(self._journal.record(task, candidate, [seconds]))
        if known:
            began = time.monotonic()
            task.learn([candidate for candidate, _ in known], [seconds for _, seconds in known])
            self._ended("search", Span(began, time.monotonic()))
        self.new_trials += len(known)
        self.errors.update(batch.errors)
        self._mark()
        self._progress(
            BatchMeasured(
                kernel=task.name,
                trials=self.trials,
                trials_wanted=self._budget.trials,
                failed=self.errors.total(),
                seconds=self._budget.seconds,
                seconds_left=self._budget.seconds_left(self.trials, self.new_trials),
                kernel_ms=1000 * task.now_s,
                predicted_ms=1000 * self.predicted_s(),
                untuned_ms=1000 * sum(t.weight * t.untuned_s for t in self.tasks),
                tuned_share=self.tuned_share(),
            )
        )

    def _ended(self, phase: Phase, span: Span | None) -> None:
        if span is not None:
            began = self._budget.began
            self._progress(PhaseEnded(phase, span.began - began, span.ended - began))

    def _mark(self) -> None:
        self.curve.append(
            CurvePoint(
                seconds=self._budget.seconds, trials=self.trials, predicted_ms=1000 * self.predicted_s()
            )
        )

    def _abandon(self) -> None:
        """Count the results of unfinished batches, after builder and runner were closed."""
        while not self._done.empty():
            batch, position, measured = self._done.get()
            if batch.trials:
                batch.take(position, measured)
            else:
                self._timed(batch.task, measured)
        for batch in list(self._batches):
            self._finish(batch)


def _argument(info: Any) -> str:
    """Format an argument for the agent, e.g. ``float32:1x3x224x224``."""
    return f"{info.dtype}:{'x'.join(str(int(n)) for n in info.shape)}"
