"""Run other processes: to completion, until a deadline, or as workers with JSON commands; children are cleaned up.

Contestants use it in their own environments: only Python at the top level, psutil for workers.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

SAID = 600  # maximum characters kept of a process's last output


class ProcessFailed(Exception):  # noqa: N818 - a result, listed with its reason
    """A process failed, answered with an error or hung; the message describes it in one paragraph.

    ``how`` and ``said`` are its parts: how the process ended, and its last output.
    """

    def __init__(
        self, how: str, said: str = "", *, unsupported: bool = False, timed_out: bool = False
    ) -> None:
        super().__init__(f"{how}; its last words: {said}" if said else how)
        self.how, self.said = how, said
        self.unsupported = unsupported
        self.timed_out = timed_out


def describe_status(status: int) -> str:
    """Describe an exit status."""
    if status == -signal.SIGKILL:
        return "killed (SIGKILL): most likely out of memory"
    return f"died of {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"


def last_line(text: object) -> str:
    """Return the last non-empty line, or an empty string."""
    return next((line.strip() for line in reversed(str(text).splitlines()) if line.strip()), "")


def run(
    argv: Sequence[object],
    *,
    text: str | None = None,
    timeout_s: float | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Return a program's output after it has exited; ``text`` is its standard input.

    Raises:
        ProcessFailed: It failed or took too long; ``said`` is its output, with stderr last.
    """
    try:
        done = subprocess.run(
            [str(word) for word in argv],
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            cwd=cwd,
            env=env,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProcessFailed(f"did not end within {timeout_s:g} s", timed_out=True) from None
    if done.returncode:
        raise ProcessFailed(describe_status(done.returncode), (done.stdout + done.stderr).strip())
    return done.stdout


def run_until(
    argv: Sequence[str],
    end: float,
    *,
    log: IO[Any],
    env: Mapping[str, str] | None = None,
    given_up: Callable[[], bool] = lambda: False,
    poll_s: float = 1.0,
) -> int | None:
    """Run a program in a separate session until ``end`` on the monotonic clock, or until it is given up.

    Returns:
        Its exit status; None if it was killed.
    """
    child = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True
    )
    try:
        while (left := end - time.monotonic()) > 0 and not given_up():
            with contextlib.suppress(subprocess.TimeoutExpired):
                return child.wait(min(poll_s, left))
        return child.poll()
    finally:
        signal_group(child.pid, signal.SIGKILL)  # including its children
        child.wait()


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a process group if it still exists."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


class WorkerProcess:
    """A process in a separate session that answers commands, one line of JSON each. It is terminated on failure.

    The other side is ``benchmarks.kit.serving``.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        folder: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start it in ``folder``, which also receives its stderr; None: the current folder and stderr."""
        self._log = None if folder is None else folder / "stderr.txt"
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        with contextlib.nullcontext() if self._log is None else self._log.open("wb") as log:
            self.spawned_ns = time.monotonic_ns()
            self._process = subprocess.Popen(
                argv,
                cwd=folder,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._unread = b""
        self._others: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, do: str, timeout_s: float, **words: Any) -> Any:
        """Return the answer to one command.

        Raises:
            ProcessFailed: An error, an early exit, or a timeout; the worker has been terminated.
        """
        line = json.dumps({"do": do, **words}, default=str) + "\n"
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
            answer = json.loads(self._read_line(time.monotonic() + timeout_s))
        except TimeoutError:
            self.close()
            how = f"no answer to {do!r} within {timeout_s:.0f} s"
            raise ProcessFailed(how, self._last_words(), timed_out=True) from None
        except (BrokenPipeError, EOFError):
            how = self._describe_end()
            self.close()
            raise ProcessFailed(how, self._last_words()) from None
        if error := answer.get("error"):
            self.close()
            raise ProcessFailed(error["words"], unsupported=error["kind"] == "unsupported")
        return answer["ok"]

    def time(self, untimed: int, runs: int, timeout_s: float) -> list[int]:
        """Return nanoseconds of ``runs`` inferences, after ``untimed`` others; the interface for interleaved timing."""
        return self.ask("time", timeout_s, untimed=untimed, runs=runs)["samples_ns"]

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

    def _describe_end(self) -> str:
        try:
            return describe_status(self._process.wait(timeout=10))
        except subprocess.TimeoutExpired:
            return "it closed its output"

    def _last_words(self) -> str:
        """Return the end of its stderr, on one line."""
        text = "" if self._log is None else self._log.read_text("utf-8", "replace")
        return " | ".join(line.strip() for line in text.splitlines() if line.strip())[-SAID:]

    def settle(self) -> None:
        """Find processes that left its process group, for ``stop`` and ``resume``."""
        self._others = self._outsiders()

    def stop(self) -> None:
        """Suspend it."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue it."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Terminate it and its children."""
        if self._process.poll() is None:
            self._others = self._outsiders()
        self._signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):  # an unread command
                pipe.close()

    def _signal(self, number: signal.Signals) -> None:
        signal_group(self._process.pid, number)
        for pid in self._others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _outsiders(self) -> list[int]:
        """Return descendants that left the process group."""
        import psutil

        outsiders = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._process.pid).children(recursive=True):
                with contextlib.suppress(ProcessLookupError):
                    if os.getpgid(child.pid) != self._process.pid:
                        outsiders.append(child.pid)
        return outsiders
