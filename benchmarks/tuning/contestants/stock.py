"""Tune with MetaSchedule's own builder, runner, cost model and scheduler, in edgepack's search space.

Builder and runner are TVM's ``LocalBuilder`` and ``LocalRunner``; the wrappers here only record
when they are busy, and their results. The time of the search is from MetaSchedule's profiler. Stock measures
in this machine's own processes, so it transfers nothing.

MetaSchedule's scheduler writes a kernel's records when it returns to that kernel, first after every
kernel has had a batch. The curve has each candidate when it was measured, which favours stock; the number of
records at the end of the run is also logged, because only they survive the process.
"""

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.kit.processes import last_line
from benchmarks.tuning.log import TuningJob, Writer, run_tuner
from edgepack.config.target import load_target
from edgepack.lower import tuning_tasks, workload
from edgepack.schedules import FAMILIES

# The profiler's scopes other than building, running and recording candidates.
SEARCH = ("EvoSearch", "InitializeTask", "MeasureCallback/UpdateCostModel")
_PICKS = re.compile(r"TaskScheduler picks Task #(\d+)")


class Picked(logging.Handler):
    """The scheduler's current kernel, which it only logs and does not pass to the builder or the runner."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self._names = names
        self._workload: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Parse "TaskScheduler picks Task #3"."""
        match = _PICKS.search(record.getMessage())
        if match:
            self._workload = self._names[int(match[1])]

    @property
    def workload(self) -> str:
        """Workload of the current batch.

        Raises:
            RuntimeError: The scheduler's log messages differ from this TVM's.
        """
        if self._workload is None:
            raise RuntimeError("TVM's scheduler did not log which kernel it picked: trials have no kernel")
        return self._workload


def main(job: TuningJob, log: Writer) -> None:
    """Tune until the trials are used; the parent terminates this process at the time limit."""
    from tvm.s_tir import meta_schedule as ms

    target = load_target(job.target)
    limits = target.tune
    # The same as ``tune_relax``, the public function below TVM's pipelines, does with the extracted tasks.
    contexts, weights = ms.relax_integration.extracted_tasks_to_tune_contexts(
        tuning_tasks(Path(job.net), target),
        job.folder,
        FAMILIES[target.family].space(target),
        seed=job.seed,
    )
    picked = Picked([workload(context.mod["main"]) for context in contexts])
    ms.task_scheduler.gradient_based.logger.addHandler(picked)
    config = ms.runner.EvaluatorConfig(number=1, repeat=limits.repeats, min_repeat_ms=limits.min_repeat_ms)
    builder = ms.builder.LocalBuilder(timeout_sec=job.build_timeout_s)
    runner = ms.runner.LocalRunner(evaluator_config=config, timeout_sec=limits.timeout_s)
    with ms.Profiler() as profiler:
        builder, runner, recorder = instrument(builder, runner, picked, profiler, log)
        callbacks = [*ms.MeasureCallback.create("default"), recorder]
        ms.tune.tune_tasks(
            tasks=contexts,
            task_weights=weights,
            work_dir=job.folder,
            max_trials_global=job.trials,
            builder=builder,
            runner=runner,
            measure_callbacks=callbacks,
        )
    log.write(profile=_seconds(profiler))


def instrument(builder: Any, runner: Any, picked: Picked, profiler: Any, log: Writer) -> tuple[Any, Any, Any]:
    """Wrap the builder and the runner to record times, and return a callback that counts records."""
    from tvm.ir.utils import derived_object
    from tvm.s_tir import meta_schedule as ms

    def at_work(phase: str, work: Callable[[], Any]) -> Any:
        began = log.now
        log.write(phase=phase, began=began, ended=None)
        results = work()
        log.write(phase=phase, began=began, ended=log.now)
        return results

    def failures(what: str, results: Sequence[Any]) -> int:
        errors = [str(result.error_msg) for result in results if result.error_msg is not None]
        if errors:
            log.write(note=f"{len(errors)} of {len(results)} {what} failed: {last_line(errors[0])[:200]}")
        return len(errors)

    @derived_object
    class ProfiledBuilder(ms.builder.PyBuilder):
        def build(self, build_inputs: Any) -> Any:
            log.write(profile=_seconds(profiler))
            results = at_work("build", lambda: builder.build(build_inputs))
            for _ in range(failures("builds", results)):
                log.write(trial=picked.workload, at=log.now, ms=None)
            return results

    @derived_object
    class LoggedRunner(ms.runner.PyRunner):
        def run(self, runner_inputs: Any) -> Any:
            futures = at_work("measure", lambda: runner.run(runner_inputs))  # LocalRunner waits for every one
            results = [future.result() for future in futures]
            for result in results:
                ms = 1000 * min(map(float, result.run_secs)) if result.run_secs else None
                log.write(trial=picked.workload, at=log.now, ms=ms)
            failures("runs", results)
            return futures

    @derived_object
    class Recorder(ms.measure_callback.PyMeasureCallback):
        def apply(self, _scheduler: Any, _task: int, candidates: Any, _built: Any, _measured: Any) -> None:
            log.write(recorded=len(candidates))
            log.write(profile=_seconds(profiler))

    return ProfiledBuilder(), LoggedRunner(), Recorder()


def search_seconds(profile: dict[str, float]) -> float:
    """Return the search's share of the profiler's time. Scopes are nested; only top-level ones are added."""
    chosen = [name for name in profile if name.startswith(SEARCH)]
    return sum(
        profile[name]
        for name in chosen
        if not any(name != other and name.startswith(f"{other}/") for other in chosen)
    )


def _seconds(profiler: Any) -> dict[str, float]:
    return {str(name): float(seconds) for name, seconds in profiler.get().items()}


if __name__ == "__main__":
    run_tuner(main)
