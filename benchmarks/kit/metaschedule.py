"""Stock MetaSchedule's search, driven from outside: it knows no time limit, so it runs in a process that can be ended.

Its builder gives a worker process so many seconds for a candidate, the import of TVM included, and starts the worker
anew after that. What it has measured is in files in the folder of the search, of which a killed process may leave
the last line half written. Runs in any environment with TVM: Python alone at the top.
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

BUILD_TIMEOUT_S = 30.0  # a candidate, by default
WORKLOADS, RECORDS = "database_workload.json", "database_tuning_record.json"
_HOPELESS = 3  # timeouts without a candidate built: workers in a row had not enough time
_DEAD_S = 1e9  # MetaSchedule writes 1e10 seconds for a candidate that did not run
_SENT = re.compile(r"Sending (\d+) sample")


class Search:
    """A search in a process of its own, and its folder, where records of an earlier one count."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._scratch = folder / "scratch"  # the process's temporary files: candidates as they are built
        self._built = 0

    def run(
        self, argv: Sequence[str], trials: int, end: float, build_timeout_s: float = BUILD_TIMEOUT_S
    ) -> str:
        """Search until the trials are done, ``end`` comes on the monotonic clock, or there is no hope; what happened.

        ``argv`` is the program that tunes; how many of the trials an earlier search has left is its last argument.

        Raises:
            RuntimeError: It failed before a candidate ran.
        """
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)
        self._repair()
        left = trials - self.counted().total()
        began = time.monotonic()
        if left > 0 and began < end:
            self._search([*argv, str(left)], end, _HOPELESS * build_timeout_s)
            self._repair()
        shutil.rmtree(self._scratch, ignore_errors=True)
        sent = sum(int(number) for number in _SENT.findall(self._log()))
        ran = self.counted()[True]
        minutes = (time.monotonic() - began) / 60
        built = max(self._built, ran)
        return f"{sent} candidates sent to the builder, at least {built} built, {ran} ran, {minutes:.1f} min"

    def counted(self) -> Counter[bool]:
        """Candidates that ran, under True, and those that did not."""
        return Counter(ran for _, ran in self._recorded())

    def kernels(self) -> int:
        """Kernels that have a candidate that ran."""
        return len({kernel for kernel, ran in self._recorded() if ran})

    def _recorded(self) -> Iterator[tuple[int, bool]]:
        """A kernel's number, and whether the candidate ran."""
        for line in _lines(self.folder / RECORDS):
            with contextlib.suppress(json.JSONDecodeError):  # the last one may be half written
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
            return late and not self._built and not self.counted()[True]

        with (self.folder / "log.txt").open("wb") as log:
            environment = {**os.environ, "TMPDIR": str(self._scratch)}
            status = run_until(argv, end, log=log, env=environment, given_up=hopeless)
        if status and status > 0 and not self.counted()[True]:
            raise RuntimeError(f"MetaSchedule ended with {status}: {last_line(self._log())}")

    def _repair(self) -> None:
        """Drop a last line that a killed process left half written."""
        for name in (WORKLOADS, RECORDS):
            lines = _lines(self.folder / name)
            if lines and not lines[-1].endswith("\n"):
                (self.folder / name).write_text("".join(lines[:-1]), encoding="utf-8")

    def _log(self) -> str:
        path = self.folder / "log.txt"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
