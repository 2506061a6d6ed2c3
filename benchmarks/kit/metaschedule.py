"""Run stock MetaSchedule's search in a separate process that can be killed, because it has no time limit.

Its builder gives a worker process a timeout per candidate, including the import of TVM, and restarts the worker
afterwards. Measurements are in files in the folder of the search; if the process is killed, the last line may be
incomplete. Runs in any environment with TVM: only Python at the top level.
"""

import contextlib
import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.kit.processes import last_line, run_until

BUILD_TIMEOUT_S = 30.0  # per candidate, by default
WORKLOADS, RECORDS = "database_workload.json", "database_tuning_record.json"
_HOPELESS = 3  # timeouts without a built candidate: consecutive workers that had too little time
_DEAD_S = 1e9  # MetaSchedule writes 1e10 seconds for a candidate that failed
_SENT = re.compile(r"Sending (\d+) sample")


class Search:
    """A search in a separate process, and its folder, which may have records of an earlier search."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._scratch = folder / "scratch"  # the process's temporary files: candidates being built
        self._built = 0

    def run(
        self, argv: Sequence[str], trials: int, end: float, build_timeout_s: float = BUILD_TIMEOUT_S
    ) -> str:
        """Search until the trials are done, the monotonic clock reaches ``end``, or there is no hope; returns a summary.

        ``argv`` is the tuning program; the number of remaining trials is appended as its last argument.

        Raises:
            RuntimeError: It failed before a candidate ran.
        """
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)
        self._repair()
        left = trials - self.count().total()
        began = time.monotonic()
        if left > 0 and began < end:
            self._search([*argv, str(left)], end, _HOPELESS * build_timeout_s)
            self._repair()
        shutil.rmtree(self._scratch, ignore_errors=True)
        sent = sum(int(number) for number in _SENT.findall(self._log()))
        ran = self.count()[True]
        minutes = (time.monotonic() - began) / 60
        built = max(self._built, ran)
        return f"{sent} candidates sent to the builder, at least {built} built, {ran} ran, {minutes:.1f} min"

    def count(self) -> Counter[bool]:
        """Count candidates that ran, under True, and those that failed, under False."""
        return Counter(ran for _, ran in self._read_records())

    def kernels(self) -> int:
        """Return the number of kernels with a candidate that ran."""
        return len({kernel for kernel, ran in self._read_records() if ran})

    def _read_records(self) -> Iterator[tuple[int, bool]]:
        """Yield a kernel's number, and whether the candidate ran."""
        for line in _lines(self.folder / RECORDS):
            with contextlib.suppress(json.JSONDecodeError):  # the last one may be incomplete
                kernel, (_, seconds, *_) = json.loads(line)
                yield kernel, bool(seconds) and min(seconds) < _DEAD_S

    def _search(self, argv: Sequence[str], end: float, patience_s: float) -> None:
        first_sent: float | None = None

        def hopeless() -> bool:
            nonlocal first_sent
            self._built = max(self._built, len(list(self._scratch.glob("*/tvm_tmp_mod.tar"))))
            if first_sent is None and _SENT.search(self._log()):
                first_sent = time.monotonic()
            late = first_sent is not None and time.monotonic() - first_sent > patience_s
            return late and not self._built and not self.count()[True]

        with (self.folder / "log.txt").open("wb") as log:
            environment = {**os.environ, "TMPDIR": str(self._scratch)}
            status = run_until(argv, end, log=log, env=environment, given_up=hopeless)
        if status and status > 0 and not self.count()[True]:
            raise RuntimeError(f"MetaSchedule ended with {status}: {last_line(self._log())}")

    def _repair(self) -> None:
        """Drop an incomplete last line of a killed process."""
        for name in (WORKLOADS, RECORDS):
            lines = _lines(self.folder / name)
            if lines and not lines[-1].endswith("\n"):
                (self.folder / name).write_text("".join(lines[:-1]), encoding="utf-8")

    def _log(self) -> str:
        path = self.folder / "log.txt"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
