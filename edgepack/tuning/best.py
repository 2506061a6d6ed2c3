"""The best records of a model among all that were measured for a target, without tuning anything."""

from pathlib import Path

from edgepack.config.target import Target
from edgepack.tuning.store import (
    LEAST_NOISE,
    RECORDS,
    RecordStore,
    beats,
    open_database,
    publish,
    read_noise,
    read_untuned,
)


def best_records(onnx_path: Path, target: Target, store: RecordStore) -> Path | None:
    """A folder for ``compile_model(records=…)``; None where nothing was measured for this target.

    As in ``tune``, only records that beat the family's fallback schedule by more than noise count.

    Raises:
        InputError: The model cannot be used.
        IntegrityError: The store's folder holds records of something else.
    """
    folder = store.folder(target)
    if not (folder / RECORDS).is_file():
        return None
    from edgepack.lower import tuning_tasks, workload

    database, untuned, noise = open_database(folder), read_untuned(folder), read_noise(folder)
    chosen = []
    for task in tuning_tasks(onnx_path, target):
        mod = task.dispatched[0]
        if not database.has_workload(mod):
            continue
        records = database.get_top_k(database.commit_workload(mod), 1)
        seconds = min((float(s) for record in records for s in record.run_secs), default=None)
        name = workload(mod["main"])
        if seconds is None or name not in untuned:
            continue
        if beats(1000 * seconds, untuned[name], noise.get(name, LEAST_NOISE)):
            chosen.append((mod, records[0], seconds))
    return publish(folder, chosen)
