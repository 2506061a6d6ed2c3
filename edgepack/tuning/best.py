"""Select a model's best records among all measurements for a target, without tuning."""

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
    """Return a folder for ``compile_model(records=…)``; None if nothing has been measured for this target.

    As in ``tune``, records count only if they beat the family's fallback schedule by more than the noise.

    Raises:
        InputError: The model cannot be used.
        IntegrityError: The store's folder contains records of another target.
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
