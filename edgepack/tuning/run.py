"""``tune``: search for the best records of a model on a board, within a budget."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgepack.base.interrupt import defer_interrupt
from edgepack.config.target import Target
from edgepack.errors import Interrupted, UsageError
from edgepack.tuning.events import TuneEvent, TuningStarted
from edgepack.tuning.journal import Journal
from edgepack.tuning.loop import Budget, Loop, Measurer
from edgepack.tuning.result import KernelEnd, KernelResult, StopReason, TuneResult
from edgepack.tuning.search import DEAD_S, Task, negligible, open_tasks
from edgepack.tuning.store import RecordStore

_BATCH = 32
_SMALLEST_BATCH = 4
_PATIENCE = 3
_TRIALS_A_MINUTE = 100


def tune(
    onnx_path: Path,
    target: Target,
    runner: Measurer,
    *,
    trials: int | None = None,
    minutes: float | None = None,
    patience: int = _PATIENCE,
    seed: int = 0,
    store: RecordStore,
    emulated_gpu: Path | None = None,
    progress: Callable[[TuneEvent], None] = lambda _: None,
) -> TuneResult:
    """Search schedules for the model's kernels, measuring candidates on the board.

    Args:
        onnx_path: The model.
        target: The board's target.
        runner: Measures candidates on the board; started and closed by ``tune``.
        trials: Stop when this many candidates of the model have been measured, including earlier runs.
        minutes: Stop after this many minutes. At least one limit must be given.
        patience: Stop searching a kernel after this many batches without improvement beyond the noise, and stop tuning
            when this holds for all kernels; 0 uses the whole budget.
        seed: Seed of the search. Measurements vary between runs, so results do too.
        store: The record store.
        emulated_gpu: Folder of the board's emulated GPU, if it has one: candidates need modules there.
        progress: Called with typed events, also from other threads.

    Raises:
        UsageError: No limit is given.
        InputError: The model cannot be used.
        LockedError: Another process tunes for this target.
        UnreachableError: The board cannot be reached or did not come back; records are kept.
        Interrupted: Ctrl-C; records are kept.
    """
    if trials is None and minutes is None:
        raise UsageError("tuning needs a budget", next="set trials, minutes or both")
    from edgepack.lower import tuning_tasks
    from edgepack.schedules import tvm_target

    with (
        store.lock(target) as folder,
        _other_cores(target, runner) as threads,
        defer_interrupt() as interrupt_point,
    ):
        budget = Budget(trials, minutes, patience)
        journal = Journal(folder, target, tvm_target(target))
        extracted = tuning_tasks(onnx_path, target)
        batch = _batch_size(trials, minutes, len(extracted))
        tasks = open_tasks(extracted, target, batch=batch, threads=threads, seed=seed)
        journal.load(tasks)
        loop = Loop(
            tasks,
            target=target,
            journal=journal,
            runner=runner,
            budget=budget,
            batch=batch,
            build_workers=threads,
            emulated_gpu=emulated_gpu,
            progress=progress,
            interrupt_point=interrupt_point,
        )
        progress(TuningStarted(len(tasks), loop.trials, trials, minutes))
        try:
            timed = all(task.workload in journal.untuned for task in tasks)
            used = trials is not None and loop.trials >= trials
            stopped: StopReason = "trials" if timed and used else loop.run()
        except KeyboardInterrupt as error:
            raise Interrupted(
                "tuning was interrupted",
                where=target.name,
                state=f"{loop.new_trials} new measurements are recorded in {folder}",
                next="re-run it to resume, or compile with the records so far",
            ) from error
        finally:
            records = journal.publish(tasks)
        return TuneResult(
            target=target.name,
            trials=loop.trials,
            new_trials=loop.new_trials,
            failed=loop.errors.total(),
            errors=tuple(loop.errors.most_common()),
            seconds=budget.seconds,
            stopped=stopped,
            records=records,
            kernels=_kernels(tasks, patience),
            curve=tuple(loop.curve),
        )


def _batch_size(trials: int | None, minutes: float | None, kernels: int) -> int:
    """Return a batch size that keeps the board busy, yet gives every kernel a turn (three if trials are limited)."""
    kernels = max(1, kernels)
    limits = [_BATCH]
    if trials is not None:
        limits.append(trials // (3 * kernels))
    if minutes is not None:
        limits.append(int(_TRIALS_A_MINUTE * minutes) // kernels)
    return max(_SMALLEST_BATCH, min(limits))


@contextmanager
def _other_cores(target: Target, runner: Measurer) -> Iterator[int]:
    """Keep this thread and its children off the measuring cores if they are local; yields the number of other cores."""
    before = os.sched_getaffinity(0)
    rest = before - set(target.tune.cores) if runner.shares_host else before
    if not rest:
        rest = before
    os.sched_setaffinity(0, rest)
    try:
        yield len(rest)
    finally:
        os.sched_setaffinity(0, before)


def _kernels(tasks: list[Task], patience: int) -> tuple[KernelResult, ...]:
    small = negligible(tasks)
    return tuple(
        KernelResult(
            name=task.name,
            workload=task.workload,
            weight=task.weight,
            trials=task.trials,
            untuned_ms=1000 * task.untuned_s,
            noise=task.noise,
            best_ms=None if task.best_s >= DEAD_S else 1000 * task.best_s,
            tuned=task.tuned,
            ended=_end(task, patience, small),
        )
        for task in tasks
    )


def _end(task: Task, patience: int, small: set[str]) -> KernelEnd:
    if task.exhausted:
        return "exhausted"
    if task.settled(patience):
        return "settled"
    return "small" if task.workload in small else "budget"
