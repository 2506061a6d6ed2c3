"""Tuning on the board: MetaSchedule's search, our builder, our runner, records that are never lost.

Imports: base, config, errors, lower, schedules, spec, toolchain.
"""

from edgepack.tune.best import best_records
from edgepack.tune.events import (
    BatchMeasured,
    CandidateMeasured,
    ConnectionLost,
    PhaseEnded,
    Reconnected,
    TuneEvent,
    TuningStarted,
    UntunedMeasured,
)
from edgepack.tune.result import CurvePoint, KernelResult, TuneResult
from edgepack.tune.run import tune
from edgepack.tune.runner import BoardRunner
from edgepack.tune.store import RecordStore

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
