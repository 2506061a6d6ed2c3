"""Records of one model in its target's folder: load, append, and select the best of each kernel."""

import os
import threading
from pathlib import Path
from typing import Any, NamedTuple

from edgepack.config.target import Target
from edgepack.tuning.runner import Measured
from edgepack.tuning.search import DEAD_S, Task
from edgepack.tuning.store import (
    LEAST_NOISE,
    RECORDS,
    open_database,
    publish,
    read_noise,
    read_untuned,
    write_untuned,
)


class Schedule(NamedTuple):
    """A scheduled module, as a replacement for MetaSchedule's Schedule object."""

    mod: Any


class Fallback(NamedTuple):
    """A kernel with its family's fallback schedule, with the attributes of a MetaSchedule candidate."""

    sch: Schedule
    args_info: list[Any]


class Journal:
    """The only writer of a folder. Appending is thread-safe."""

    def __init__(self, folder: Path, target: Target, tvm_target: Any) -> None:
        self.folder = folder
        self.untuned = read_untuned(folder)
        self._noise = read_noise(folder)
        self._target = target
        self._tvm_target = tvm_target
        self._database = open_database(folder)
        self._entries: dict[str, Any] = {}
        self._lock = threading.Lock()

    def load(self, tasks: list[Task]) -> None:
        """Load the measurements of earlier runs into each task, and register its workload."""
        for task in tasks:
            self._entries[task.workload] = self._database.commit_workload(task.mod)
            task.untuned_s = self.untuned.get(task.workload, 1000 * DEAD_S) / 1000
            task.noise = self._noise.get(task.workload, LEAST_NOISE)
        mine = {task.workload: task for task in tasks}
        by_entry = {entry: mine[name] for name, entry in self._entries.items()}
        for record in self._database.get_all_tuning_records():
            if record.workload in by_entry:
                by_entry[record.workload].add(record)
        for task in tasks:
            task.resume()

    def record(self, task: Task, candidate: Any, seconds: list[float]) -> Any:
        """Return MetaSchedule's record of a measured candidate."""
        from tvm.s_tir.meta_schedule.database import TuningRecord

        return TuningRecord(candidate.sch.trace, task.entry, seconds, self._tvm_target, candidate.args_info)

    def append(self, task: Task, candidate: Any, measured: Measured) -> None:
        """Write one measurement; failed candidates are recorded too, so that they count as trials."""
        from tvm.s_tir.meta_schedule.database import TuningRecord

        seconds = [ms / 1000 for ms in measured.ms] or [DEAD_S]
        entry = self._entries[task.workload]
        record = TuningRecord(candidate.sch.trace, entry, seconds, self._tvm_target, candidate.args_info)
        with self._lock:
            self._database.commit_tuning_record(record)
            descriptor = os.open(self.folder / RECORDS, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def fallback(self, task: Task) -> Fallback:
        """Return the kernel as ``compile_model`` schedules it without records."""
        import tvm
        from tvm.s_tir.meta_schedule.arg_info import ArgInfo

        from edgepack.schedules import FAMILIES

        # A copy: the pass works in place, and records are looked up by the task's module.
        copy = tvm.IRModule(dict(task.mod.functions.items()), attrs=task.mod.attrs)
        with self._tvm_target, tvm.transform.PassContext(opt_level=3):
            mod = FAMILIES[self._target.family].fallback(self._target)(copy)
        return Fallback(Schedule(mod), list(ArgInfo.from_entry_func(mod, remove_preproc=True)))

    def add_untuned(self, task: Task, seconds: float) -> None:
        """Add another timing of a kernel's fallback."""
        task.time_untuned(seconds)
        self.untuned[task.workload] = 1000 * task.untuned_s
        self._noise[task.workload] = task.noise
        write_untuned(self.folder, self.untuned, self._noise)

    def publish(self, tasks: list[Task]) -> Path:
        """Return the folder for ``compile_model``, with the best record of each tuned kernel."""
        chosen = sorted((task for task in tasks if task.tuned), key=lambda task: task.workload)
        return publish(self.folder, [(task.mod, task.best, task.best_s) for task in chosen])
