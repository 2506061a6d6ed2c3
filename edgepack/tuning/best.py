"""The best records of a model among all that were measured for a target, without tuning anything."""

from pathlib import Path

from edgepack.config.target import Target
from edgepack.tuning.store import RECORDS, RecordStore, open_database, publish, read_untuned


def best_records(onnx_path: Path, target: Target, store: RecordStore) -> Path | None:
    """A folder for ``compile_model(records=…)``; None where nothing was measured for this target.

    As in ``tune``, only records that beat the family's fallback schedule count.

    Raises:
        InputError: The model cannot be used.
        IntegrityError: The store's folder holds records of something else.
    """
    folder = store.folder(target)
    if not (folder / RECORDS).is_file():
        return None
    from edgepack.lower import tuning_tasks, workload

    database, untuned = open_database(folder), read_untuned(folder)
    chosen = []
    for task in tuning_tasks(onnx_path, target):
        mod = task.dispatched[0]
        if not database.has_workload(mod):
            continue
        records = database.get_top_k(database.commit_workload(mod), 1)
        seconds = min((float(s) for record in records for s in record.run_secs), default=None)
        limit_ms = untuned.get(workload(mod["main"]))
        if seconds is not None and limit_ms is not None and 1000 * seconds < limit_ms:
            chosen.append((mod, records[0], seconds))
    return publish(folder, chosen)
