"""The benchmark's side of a worker: start, ask, stop and continue, and an end that leaves nothing behind."""

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from benchmarks.kit.places import ROOT

TAIL_LINES = 6
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TVM_NUM_THREADS",
)


class WorkerFailed(Exception):  # noqa: N818 - a result, listed with its reason
    """A worker answered with an error, died or hung; the message says which, in one paragraph."""

    def __init__(self, words: str, *, unsupported: bool = False, timed_out: bool = False) -> None:
        super().__init__(words)
        self.unsupported = unsupported
        self.timed_out = timed_out


class Worker:
    """A process of one contestant. After a failure it has ended."""

    def __init__(
        self,
        python: Path,
        registry: str,
        name: str,
        *,
        cores: Sequence[int],
        folder: Path,
        paths: Sequence[Path] = (),
    ) -> None:
        """Start it.

        Args:
            python: Of the contestant's environment.
            registry: ``module:attribute`` of the dict of contestants.
            name: The contestant.
            cores: CPUs it may run on; libraries are told to use as many threads.
            folder: Its working directory, where its stderr is kept, too.
            paths: More folders to import from.
        """
        self.name = name
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "stderr.txt"
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
            **dict.fromkeys(_THREADS, str(len(cores))),
            "PYTHONPATH": os.pathsep.join(str(path) for path in (ROOT, *paths)),
            "PYTHONNOUSERSITE": "1",
            "ORT_DISABLE_TELEMETRY": "1",  # a thread of onnxruntime's that would run beside the inference
        }
        command = [str(python), "-P", "-m", "benchmarks.peers.worker"]
        with self._log.open("wb") as log:
            self.spawned_ns = time.monotonic_ns()
            self._process = subprocess.Popen(
                [*command, registry, name, ",".join(map(str, cores))],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._unread = b""
        self._others: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, do: str, timeout_s: float, **words: Any) -> dict[str, Any]:
        """The answer to one command.

        Raises:
            WorkerFailed: An error, an early end, or no answer in time; the worker has ended.
        """
        line = json.dumps({"do": do, **words}, default=str) + "\n"
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
            answer = json.loads(self._read_line(time.monotonic() + timeout_s))
        except TimeoutError:
            self._fail(f"no answer to {do!r} within {timeout_s:.0f} s", timed_out=True)
        except (BrokenPipeError, EOFError):
            self._fail(self._how_it_ended())
        if "error" in answer:
            self.close()
            raise WorkerFailed(answer["error"]["words"], unsupported=answer["error"]["kind"] == "unsupported")
        ok: dict[str, Any] = answer["ok"]
        return ok

    def _read_line(self, deadline: float) -> bytes:
        stdout = self._process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                part = os.read(stdout.fileno(), 1 << 20)
                if not part:
                    raise EOFError
                self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        if status == -signal.SIGKILL:
            return "killed (SIGKILL): most likely out of memory"
        return f"died of {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"

    def _fail(self, words: str, *, timed_out: bool = False) -> None:
        self.close()
        tail = self.last_words()
        raise WorkerFailed(f"{words}; its last words: {tail}" if tail else words, timed_out=timed_out)

    def last_words(self) -> str:
        """The end of its stderr, on one line."""
        lines = self._log.read_text("utf-8", "replace").splitlines()
        return " | ".join(line.strip() for line in lines if line.strip())[-600:] if lines else ""

    def settle(self) -> None:
        """Find descendants that left the process group, for ``stop`` and ``resume``."""
        self._others = self._outsiders()

    def stop(self) -> None:
        """Give it no processor time."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End it and all it started."""
        if self._process.poll() is None:
            self._others = self._outsiders()
        self._signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                pipe.close()
            except BrokenPipeError:  # a command that it did not read
                continue

    def _signal(self, number: signal.Signals) -> None:
        for send, target in [(os.killpg, self._process.pid), *((os.kill, pid) for pid in self._others)]:
            try:
                send(target, number)
            except ProcessLookupError:
                continue

    def _outsiders(self) -> list[int]:
        try:
            children = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        found = []
        for child in children:
            try:
                if os.getpgid(child.pid) != self._process.pid:
                    found.append(child.pid)
            except ProcessLookupError:
                continue
        return found
