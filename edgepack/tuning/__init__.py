"""Tuning on the board: MetaSchedule's search with our builder and runner, and persistent records.

Imports: agent, base, config, emulation, errors, executor, lower, schedules, spec, toolchain.
"""

from edgepack.tuning.best import best_records
from edgepack.tuning.events import (
    BatchMeasured,
    CandidateMeasured,
    ConnectionLost,
    PhaseEnded,
    Reconnected,
    TuneEvent,
    TuningStarted,
    UntunedMeasured,
)
from edgepack.tuning.result import CurvePoint, KernelResult, TuneResult
from edgepack.tuning.run import tune
from edgepack.tuning.runner import BoardRunner
from edgepack.tuning.store import RecordStore

__all__ = [
    "BatchMeasured",
    "BoardRunner",
    "CandidateMeasured",
    "ConnectionLost",
    "CurvePoint",
    "KernelResult",
    "PhaseEnded",
    "Reconnected",
    "RecordStore",
    "TuneEvent",
    "TuneResult",
    "TuningStarted",
    "UntunedMeasured",
    "best_records",
    "tune",
]
