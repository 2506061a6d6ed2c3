"""Records as tuning leaves them, without its measurements: for every kernel, a random candidate of the search space."""

from pathlib import Path
from typing import Any

from edgepack.config.target import Target
from edgepack.lower import tuning_tasks
from edgepack.schedules import tvm_target
from edgepack.schedules.families import FAMILIES
from edgepack.schedules.intrinsics import skip_tvms_package

_SECONDS = 1e-6  # as if measured


def write_records(model: Path, target: Target, folder: Path, seed: int = 1) -> int:
    """Write records for the model's kernels to the folder; returns their number.

    Kernels for which the search finds no valid candidate get none.
    """
    from tvm.s_tir.meta_schedule.database import JSONDatabase, TuningRecord

    skip_tvms_package()
    folder.mkdir(parents=True, exist_ok=True)
    database = JSONDatabase(str(folder / "workload.json"), str(folder / "tuning_record.json"))
    count = 0
    for number, task in enumerate(tuning_tasks(model, target)):
        (mod,) = task.dispatched
        candidate = _candidate(mod, target, seed + number)
        if candidate is not None:
            workload = database.commit_workload(mod)
            record = TuningRecord(
                candidate.sch.trace, workload, [_SECONDS], tvm_target(target), candidate.args_info
            )
            database.commit_tuning_record(record)
            count += 1
    return count


def _candidate(mod: Any, target: Target, seed: int) -> Any:
    from tvm.s_tir.meta_schedule import TuneContext
    from tvm.s_tir.meta_schedule.search_strategy import ReplayTrace

    context = TuneContext(
        mod,
        target=tvm_target(target),
        space_generator=FAMILIES[target.family].space(target),
        search_strategy=ReplayTrace(),
        rand_state=seed,
        num_threads=1,
    )
    context.pre_tuning(max_trials=8, num_trials_per_iter=1, design_spaces=context.generate_design_space())
    try:
        found = context.generate_measure_candidates()
    finally:
        context.post_tuning()
    return found[0] if found else None
