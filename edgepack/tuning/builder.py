"""Client of the build server."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgepack.config.target import Target
from edgepack.errors import EdgepackError
from edgepack.tuning.events import Span
from edgepack.tuning.link import candidate_linker


@dataclass(frozen=True)
class Built:
    """The result of one build."""

    id: int
    error: str | None = None
    lost: bool = False  # the build server ended first: the result is unknown
    span: Span | None = None  # time spent in a worker; None if lost


Done = Callable[[Built], None]


class Builder:
    """Builds candidates in forked processes; ``done`` is called from a thread as builds finish.

    With ``emulated_gpu``, the folder of one, modules for it are built from the candidates' CUDA sources, too.
    """

    def __init__(
        self,
        done: Done,
        target: Target,
        *,
        workers: int,
        timeout_s: float = 30.0,
        emulated_gpu: Path | None = None,
    ) -> None:
        if not target.gpu:
            candidate_linker(target.abi.arch)  # the first time takes longer than a build may
        self._done = done
        self._open: set[int] = set()
        self._lock = threading.Lock()
        server = [sys.executable, "-m", "edgepack.tuning.build_server"]
        gpu = () if emulated_gpu is None else (str(emulated_gpu),)
        argv = [*server, target.model_dump_json(), str(workers), str(timeout_s), *gpu]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise EdgepackError("the build server has no pipes")
        self._jobs = Connection(os.dup(self._process.stdin.fileno()), readable=False)
        self._answers = Connection(os.dup(self._process.stdout.fileno()), writable=False)
        self._process.stdin.close()
        self._process.stdout.close()
        self._reader = threading.Thread(target=self._read, name="edgepack-builds", daemon=True)
        self._reader.start()

    def submit(self, job: int, mod: Any, out: Path) -> None:
        """Submit a scheduled module to be built.

        Raises:
            EdgepackError: The build server has ended.
        """
        import tvm

        with self._lock:
            self._open.add(job)
        try:
            self._jobs.send((job, tvm.ir.save_json(mod), str(out)))
        except OSError as error:
            raise EdgepackError(
                "the build server ended",
                why=f"exit status {self._process.wait()}",
                state="all measurements so far are in the record store",
                next="tune again to resume",
            ) from error

    def _read(self) -> None:
        while True:
            try:
                job, error, span = self._answers.recv()
            except (EOFError, OSError):
                break
            with self._lock:
                self._open.discard(job)
            self._done(Built(job, error, span=Span(*span)))
        with self._lock:
            lost, self._open = self._open, set()
        for job in lost:
            self._done(Built(job, lost=True))

    def close(self) -> None:
        """Stop the server and its workers; unfinished builds are reported as lost."""
        self._jobs.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._answers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
