"""Tune with MetaSchedule's own builder, runner, cost model and scheduler, in edgepack's search space.

Builder and runner are TVM's ``LocalBuilder`` and ``LocalRunner``; what stands around them here only notes
when they were at work. The time of the search is MetaSchedule's profiler's. Stock measures in this machine's
own processes, so it transfers nothing.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.tuners.log import Job, Writer

# The profiler's names for what is neither building nor running candidates, nor writing records.
SEARCH = ("EvoSearch", "InitializeTask", "MeasureCallback/UpdateCostModel")


def main(job: Job, log: Writer) -> None:
    """Tune until the trials are used; whoever started this ends it when the minutes are over."""
    from tvm.s_tir import meta_schedule as ms
    from tvm.s_tir.meta_schedule.relax_integration import extracted_tasks_to_tune_contexts

    from edgepack.lower import tuning_tasks
    from edgepack.lower.build import workload
    from edgepack.schedules import FAMILIES
    from edgepack.target import load_target

    target = load_target(job.target)
    contexts, weights = extracted_tasks_to_tune_contexts(
        tuning_tasks(Path(job.net), target),
        job.folder,
        FAMILIES[target.family].space(target),
        seed=job.seed,
    )
    config = ms.runner.EvaluatorConfig(
        number=1, repeat=target.tune.repeats, min_repeat_ms=target.tune.min_repeat_ms
    )
    names = [workload(context.mod["main"]) for context in contexts]
    builder = ms.builder.LocalBuilder(timeout_sec=job.build_timeout_s)
    runner = ms.runner.LocalRunner(evaluator_config=config, timeout_sec=target.tune.timeout_s)
    with ms.Profiler() as profiler:
        builder, runner, watcher = watched(builder, runner, names, profiler, log)
        ms.tune.tune_tasks(
            tasks=contexts,
            task_weights=weights,
            work_dir=job.folder,
            max_trials_global=job.trials,
            builder=builder,
            runner=runner,
            measure_callbacks=[*ms.MeasureCallback.create("default"), watcher],
            database=ms.database.JSONDatabase(
                str(Path(job.folder) / "workload.json"), str(Path(job.folder) / "tuning_record.json")
            ),
        )
    log.profile(_seconds(profiler))


def watched(builder: Any, runner: Any, names: list[str], profiler: Any, log: Writer) -> tuple[Any, Any, Any]:
    """The builder and the runner with a clock around them, and a callback that notes each batch's trials."""
    from tvm.ir.utils import derived_object
    from tvm.s_tir import meta_schedule as ms

    @derived_object
    class Builder(ms.builder.PyBuilder):
        def build(self, build_inputs: Any) -> Any:
            log.profile(_seconds(profiler))
            began = log.now
            log.piece("build", began, None)
            results = builder.build(build_inputs)
            log.piece("build", began, log.now)
            return results

    @derived_object
    class Runner(ms.runner.PyRunner):
        def run(self, runner_inputs: Any) -> Any:
            began = log.now
            log.piece("measure", began, None)
            futures = runner.run(runner_inputs)  # LocalRunner waits for every one
            log.piece("measure", began, log.now)
            return futures

    @derived_object
    class Watcher(ms.measure_callback.PyMeasureCallback):
        def apply(
            self, task_scheduler: Any, task_id: int, candidates: Any, built: Any, measured: Any
        ) -> None:
            del task_scheduler
            failures = 0
            for build, run in zip(built, measured, strict=True):
                seconds = [] if run.run_secs is None else [float(value) for value in run.run_secs]
                log.trial(log.now, names[int(task_id)], 1000 * min(seconds) if seconds else None)
                if not seconds and not failures:
                    said = str(build.error_msg or run.error_msg or "no time").strip().splitlines()
                    log.note(f"the first that failed of {len(candidates)}: {said[-1]}")
                failures += not seconds
            log.profile(_seconds(profiler))

    return Builder(), Runner(), Watcher()


def search_seconds(profile: dict[str, float]) -> float:
    """The search's share of what the profiler says. It counts scopes within scopes; only whole ones are added."""
    chosen = [name for name in profile if name.startswith(SEARCH)]
    return sum(
        profile[name]
        for name in chosen
        if not any(name != other and name.startswith(f"{other}/") for other in chosen)
    )


def _seconds(profiler: Any) -> dict[str, float]:
    return {str(name): float(seconds) for name, seconds in profiler.get().items()}


if __name__ == "__main__":
    given = Job(**json.loads(sys.argv[1]))
    with Writer(given) as writer:
        main(given, writer)
