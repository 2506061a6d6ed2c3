"""What a tuner does, as lines of JSON on disk while it does it: whenever it is ended, the log is whole.

Seconds are counted from the start of the tuner's process.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

PHASES = ("search", "build", "transfer", "measure")


@dataclass(frozen=True)
class TuningJob:
    """One run of one tuner."""

    net: str
    target: str
    folder: str  # where it keeps its records, and its log
    minutes: float
    trials: int
    seed: int
    began: float  # time.monotonic() when its process was started
    build_timeout_s: float = 30.0  # of stock's builder


@dataclass(frozen=True)
class TunerTrial:
    """One candidate that was tried."""

    seconds: float  # when its time was known
    workload: str
    ms: float | None  # None: it did not build, crashed or ran out of time


@dataclass
class Log:
    """All that one run said. ``pieces`` are (began, ended) of each phase."""

    trials: list[TunerTrial] = field(default_factory=list)
    pieces: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: {p: [] for p in PHASES})
    profile: dict[str, float] = field(default_factory=dict)  # MetaSchedule's own, the last one
    notes: list[str] = field(default_factory=list)
    recorded: int = 0  # trials that are in the tuner's records


class Writer:
    """Appends to the log of a job; safe from any thread, as a line is one write."""

    def __init__(self, job: TuningJob) -> None:
        self._began = job.began
        self._path = Path(job.folder) / "log.jsonl"

    def __enter__(self) -> Self:
        self._file = self._path.open("a", encoding="utf-8", buffering=1)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def now(self) -> float:
        """Seconds since the process was started."""
        return time.monotonic() - self._began

    def write(self, **line: Any) -> None:
        """One line, of one kind.

        trial, at, ms: A candidate of the workload ``trial`` has its answer.
        phase, began, ended: A phase was at work; without an end it has only begun.
        profile: What MetaSchedule's profiler says so far.
        recorded: So many more trials are on disk as records.
        note: Something a reader of the results should know.
        """
        self._file.write(json.dumps(line) + "\n")


def read(lines: Iterable[str], seconds: float) -> Log:
    """The log of a run that took ``seconds``; a line torn by its end is left out.

    Work that had begun and did not end before the run did is counted up to then.
    """
    log = Log()
    open_pieces: dict[tuple[str, float], float] = {}
    for text in lines:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if "trial" in line:
            log.trials.append(TunerTrial(line["at"], line["trial"], line["ms"]))
        elif "phase" in line:
            open_pieces[line["phase"], line["began"]] = seconds if line["ended"] is None else line["ended"]
        elif "profile" in line:
            log.profile = line["profile"]
        elif "recorded" in line:
            log.recorded += line["recorded"]
        else:
            log.notes.append(line["note"])
    for (phase, began), ended in sorted(open_pieces.items()):
        log.pieces[phase].append((began, max(began, min(ended, seconds))))
    return log


def started(main: Callable[[TuningJob, Writer], None]) -> None:
    """Run a tuner as the program that it is: the job comes as JSON."""
    job = TuningJob(**json.loads(sys.argv[1]))
    with Writer(job) as log:
        main(job, log)
