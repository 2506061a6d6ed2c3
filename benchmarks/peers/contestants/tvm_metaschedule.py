"""Stock TVM tuned by its own MetaSchedule: the pipeline ``static_shape_tuning`` of TVM's documentation.

The tuning runs in a child process, in a process group of its own, because it knows no time limit. It is tried
as documented first. Its builder gives a worker process 30 seconds for a candidate, the import of TVM included,
and starts the worker anew after that, so that on a slow machine no candidate is ever built. Where that is
seen, the same tuning starts again through ``tune_relax``, the public function below the pipeline, whose
builder takes a longer timeout. The notes say which one it was.
"""

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers.contestants import tvm as untuned
from benchmarks.peers.protocol import Prepared, Task, Unsupported

_BUILDER_TIMEOUTS_S = {"as documented": 30.0, "with a builder timeout of 600 s": 600.0}
_HOPELESS = 3  # timeouts without a candidate built: workers in a row had not enough time
_TUNING_SHARE = 0.85  # of the minutes; the rest is for importing and compiling
_DEAD_S = 1e9  # MetaSchedule writes 1e10 seconds for a candidate that did not run
_WORKLOADS, _RECORDS = "database_workload.json", "database_tuning_record.json"
_SENT = re.compile(r"Sending (\d+) sample")
_PR_SET_PDEATHSIG = 1


class TvmMetaSchedule(untuned.Tvm):
    """As ``Tvm``, after ``task.trials`` trials of MetaSchedule."""

    title = "TVM, MetaSchedule"
    requirements = (*untuned.REQUIREMENTS, "cloudpickle==3.1.2", "psutil==7.2.2", "xgboost-cpu==3.2.0")

    def prepare(self, task: Task) -> Prepared:
        """Tune in the time there is, then compile with the records.

        Raises:
            Unsupported: No candidate ran in that time; how many were tried.
        """
        from tvm import relax

        task.folder.mkdir(parents=True, exist_ok=True)
        model, notes = untuned.source(task)
        untuned.imported(model)  # says what it cannot import before anything is tuned
        deadline = time.monotonic() + 60 * _TUNING_SHARE * task.minutes
        told = []
        for number, attempt in enumerate(_BUILDER_TIMEOUTS_S):
            tuning = _Tuning(attempt, model, task.folder / f"tuning-{number}")
            told.append(f"{attempt}: {tuning.run(task.trials, deadline)}")
            counts = tuning.counted()
            if counts[True]:
                pipeline = relax.get_pipeline(
                    "static_shape_tuning", target=_target(), total_trials=0, work_dir=str(tuning.folder)
                )
                notes |= {
                    "tuning": "; ".join(told),
                    "trials": counts.total(),
                    "trials_failed": counts[False],
                    "kernels_tuned": tuning.kernels(),
                }
                return untuned.build(task, model, notes, pipeline)
        raise Unsupported(f"no candidate ran on {os.cpu_count()} cores; {'; '.join(told)}")


class _Tuning:
    """One attempt: its child process and its folder, where records of an earlier run count."""

    def __init__(self, attempt: str, model: Path, folder: Path) -> None:
        self.folder = folder
        self._attempt = attempt
        self._model = model
        self._scratch = folder / "scratch"  # the child's temporary files: candidates as they are built
        self._built = 0

    def run(self, trials: int, deadline: float) -> str:
        """Tune until the trials are done, the deadline is there, or there is no hope; what happened."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)
        self._repair()
        left = trials - self.counted().total()
        began = time.monotonic()
        if left > 0 and began < deadline:
            self._tune(left, deadline)
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
        for line in _lines(self.folder / _RECORDS):
            with contextlib.suppress(json.JSONDecodeError):  # the last one may be half written
                kernel, (_, seconds, *_) = json.loads(line)
                yield kernel, bool(seconds) and min(seconds) < _DEAD_S

    def _tune(self, trials: int, deadline: float) -> None:
        program = f"import sys; from {__name__} import tune; tune(*sys.argv[1:])"
        words = [self._attempt, str(self._model), str(self.folder), str(trials)]
        with (self.folder / "log.txt").open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-c", program, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "TMPDIR": str(self._scratch)},
                start_new_session=True,
            )
        first_sent, patience = None, _HOPELESS * _BUILDER_TIMEOUTS_S[self._attempt]
        try:
            while child.poll() is None and time.monotonic() < deadline:
                self._built = max(self._built, len(list(self._scratch.glob("*/tvm_tmp_mod.tar"))))
                if first_sent is None and _SENT.search(self._log()):
                    first_sent = time.monotonic()
                late = first_sent is not None and time.monotonic() - first_sent > patience
                if late and not self._built and not self.counted()[True]:
                    break
                time.sleep(1)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # its workers, too
            child.wait()
        if child.returncode > 0 and not self.counted()[True]:
            last = self._log().strip().splitlines()[-1:]
            raise RuntimeError(f"MetaSchedule ended with {child.returncode}: {''.join(last)}")

    def _repair(self) -> None:
        """Drop a last line that a killed process left half written."""
        for name in (_WORKLOADS, _RECORDS):
            lines = _lines(self.folder / name)
            if lines and not lines[-1].endswith("\n"):
                (self.folder / name).write_text("".join(lines[:-1]), encoding="utf-8")

    def _log(self) -> str:
        path = self.folder / "log.txt"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []


def _target() -> Any:
    import tvm

    return tvm.target.Target(untuned.target())


def tune(attempt: str, model: str, folder: str, trials: str) -> None:
    """In the child: MetaSchedule's search, whose records go to ``folder``."""
    import tvm
    from tvm import relax
    from tvm.s_tir import meta_schedule as ms

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    module, target = untuned.imported(Path(model)), _target()
    if attempt == next(iter(_BUILDER_TIMEOUTS_S)):
        relax.get_pipeline("static_shape_tuning", target=target, total_trials=int(trials), work_dir=folder)(
            module
        )
        return
    passes = (  # those of the pipeline before its tuning
        relax.transform.DecomposeOpsForInference(),
        relax.transform.CanonicalizeBindings(),
        relax.get_pipeline("zero"),
    )
    with target:
        module = tvm.transform.Sequential(passes)(module)
    ms.relax_integration.tune_relax(
        module,
        params={},
        target=target,
        work_dir=folder,
        max_trials_global=int(trials),
        builder=ms.builder.LocalBuilder(timeout_sec=_BUILDER_TIMEOUTS_S[attempt]),
    )
