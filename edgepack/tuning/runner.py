"""Measure candidates on the board with one long-lived ``agent measure`` over one SSH session.

Frames and answers are specified in docs/agent-protocol.md. Up to ``_AHEAD`` candidates are sent before the current
measurement ends, so that the board never waits for the network. If the connection is lost, candidates without
an answer are sent again over the next connection; one that was in flight twice is marked as failed, because it may
be what crashes the board.
"""

import json
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from edgepack.config.target import Tuning
from edgepack.errors import EdgepackError, UnreachableError
from edgepack.tuning.events import ConnectionLost, Reconnected, Span
from edgepack.tuning.transport import BoardProcess, Transport

_AHEAD = 4
_BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_FLIGHTS = 2  # a candidate that was in flight when the connection was lost this many times has failed
_HANGING_S = 30.0


@dataclass(frozen=True)
class KernelCandidate:
    """A program to measure, or a library for a GPU: its only function takes ``arguments``, each ``dtype:AxBxC``."""

    id: int
    file: Path
    function: str
    arguments: tuple[str, ...]
    flights: int = 0


@dataclass(frozen=True)
class Measured:
    """The result of one candidate: milliseconds of each repeat, or the error."""

    id: int
    ms: tuple[float, ...] = ()
    error: str | None = None
    lost: bool = False  # the run ended before it was measured: the result is unknown
    transfer: Span | None = None  # upload of it; None if not sent or not answered
    measure: Span | None = None  # measurement on the board


Results = Callable[[Measured], None]
Notices = Callable[[ConnectionLost | Reconnected], None]


class BoardRunner:
    """Measures candidates on one board, in its own thread.

    Args:
        connect: Opens a connection and returns it with the path of the agent on the board. Called again
            when the connection is lost; it may re-install the agent if a reboot removed it.
        tuning: Timeout, cool-down, cores and repeats of the target.
        device: Where kernels run on the board, ``cpu`` or ``cuda``.
        shares_host: The board is this machine (a virtual one).
        patience_s: How long to wait for a board before giving up.
    """

    def __init__(
        self,
        connect: Callable[[], tuple[Transport, str]],
        tuning: Tuning,
        *,
        device: str = "cpu",
        shares_host: bool = False,
        patience_s: float = 300.0,
    ) -> None:
        self._connect = connect
        self._tuning = tuning
        self._device = device
        self.shares_host = shares_host
        self._patience_s = patience_s
        self._waiting: queue.SimpleQueue[KernelCandidate | None] = queue.SimpleQueue()
        self._flying: deque[KernelCandidate] = deque()
        self._again: deque[KernelCandidate] = deque()
        self._sent: dict[int, Span] = {}  # candidates in flight
        self._answered = 0.0  # time of the last answer
        self._transport: Transport | None = None
        self._process: BoardProcess | None = None
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.failure: EdgepackError | None = None
        self._results: Results = lambda _: None
        self._notices: Notices = lambda _: None

    def start(self, results: Results, notices: Notices) -> None:
        """Connect, then measure submitted candidates; both callbacks are called from the runner's thread.

        Raises:
            EdgepackError: The first connection failed.
        """
        self._results, self._notices = results, notices
        self._open()
        self._thread = threading.Thread(target=self._run, name="edgepack-runner", daemon=True)
        self._thread.start()

    def submit(self, candidate: KernelCandidate) -> None:
        """Queue one candidate."""
        self._waiting.put(candidate)

    def close(self) -> None:
        """Stop measuring, stop the agent on the board and close the connection."""
        self._closing.set()
        self._waiting.put(None)
        self._shut()
        if self._thread:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                try:
                    self._pump()
                except (OSError, UnreachableError) as error:
                    if not self._closing.is_set():
                        self._recover(error)
        except EdgepackError as error:
            self.failure = error
        except Exception as error:  # noqa: BLE001 - a defect: whoever waits for results must hear of it
            self.failure = EdgepackError("the runner failed", why=f"{type(error).__name__}: {error}")
        while (candidate := self._take(block=False)) is not None:
            self._results(Measured(candidate.id, lost=True))
        for candidate in self._flying:
            self._results(Measured(candidate.id, lost=True))

    def _pump(self) -> None:
        """Send ahead and read answers until the connection is lost or the runner is closed."""
        while not self._closing.is_set():
            while len(self._flying) < _AHEAD:
                candidate = self._take(block=not self._flying)
                if candidate is None:
                    break
                self._flying.append(candidate)
                self._send(candidate)
            if self._flying:
                self._answer()

    def _take(self, *, block: bool) -> KernelCandidate | None:
        if self._again:
            return self._again.popleft()
        with suppress(queue.Empty):
            return self._waiting.get(block=block)
        return None

    def _send(self, candidate: KernelCandidate) -> None:
        process = self._process
        if process is None:
            raise UnreachableError("not connected to the board")
        body = candidate.file.read_bytes()
        words = ["job", str(candidate.id), str(len(body)), candidate.function, *candidate.arguments]
        began = time.monotonic()
        process.stdin.write(" ".join(words).encode() + b"\n" + body)
        self._sent[candidate.id] = Span(began, time.monotonic())

    def _answer(self) -> None:
        """Read one answer. The agent enforces the timeout; ours covers an agent that hangs."""
        process = self._process  # close() in another thread may reset it
        if process is None:
            raise UnreachableError("not connected to the board")
        timeout = 2 * self._tuning.timeout_s + self._tuning.cooldown_ms / 1000 + _HANGING_S
        line = process.readline(timeout)  # TimeoutError is an OSError: the agent hangs, reconnect
        if not line:
            said = process.stderr.decode(errors="replace").strip()
            raise UnreachableError("the agent exited", why=said or None)
        now = time.monotonic()
        try:
            answer = json.loads(line)
            measured = Measured(
                int(answer["id"]),
                tuple(float(ms) for ms in answer["ms"]) if answer["ok"] else (),
                None if answer["ok"] else str(answer["error"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UnreachableError(
                "the agent's answer does not follow the protocol", why=repr(line[:200])
            ) from error
        for candidate in self._flying:
            if candidate.id == measured.id:
                self._flying.remove(candidate)
                sent = self._sent.pop(candidate.id)
                at_work = Span(max(sent.ended, self._answered), now)
                self._answered = now
                self._results(replace(measured, transfer=sent, measure=at_work))
                return

    def _recover(self, error: OSError | EdgepackError) -> None:
        """Reconnect, with increasing delays, and move candidates in flight to the front of the queue.

        Raises:
            UnreachableError: The board was unreachable for longer than ``patience_s``.
        """
        self._shut()
        flown = [replace(c, flights=c.flights + 1) for c in self._flying]
        self._flying.clear()
        for candidate in flown:
            if candidate.flights < _FLIGHTS:
                self._again.append(candidate)
            else:
                self._results(
                    Measured(candidate.id, error=f"the connection was lost twice during it: {error}")
                )
        began, attempt = time.monotonic(), 0
        why = getattr(error, "why", None) or str(error)
        while True:
            pause = _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]
            attempt += 1
            self._notices(ConnectionLost(why, attempt, pause))
            if self._closing.wait(pause):
                return
            try:
                self._open()
            except (OSError, UnreachableError) as failed:
                why = str(failed)
                if time.monotonic() - began > self._patience_s:
                    raise UnreachableError(
                        f"the board has not responded for {self._patience_s:.0f} s",
                        why=why,
                        state="all measurements so far are in the record store",
                        next="bring the board back and tune again to resume",
                    ) from failed
            else:
                self._notices(Reconnected(len(self._again)))
                return

    def _open(self) -> None:
        self._transport, agent = self._connect()
        try:
            self._process = self._transport.stream(measure_argv(agent, self._tuning, self._device))
        except BaseException:
            self._shut()  # the next attempt opens a new connection
            raise

    def _shut(self) -> None:
        """Stop the agent and close the connection; failures on a dead connection are ignored."""
        process, self._process = self._process, None
        transport, self._transport = self._transport, None
        with suppress(OSError, EdgepackError):
            if process:
                process.terminate()
        with suppress(OSError, EdgepackError):
            if transport:
                transport.close()


def measure_argv(agent: str, tuning: Tuning, device: str) -> Sequence[str]:
    """Return the command line of ``agent measure``."""
    return (
        agent,
        "measure",
        *("--timeout", f"{tuning.timeout_s:g}"),
        *("--repeats", str(tuning.repeats)),
        *("--min-ms", str(tuning.min_repeat_ms)),
        *("--cooldown-ms", str(tuning.cooldown_ms)),
        *("--cores", ",".join(map(str, tuning.cores))),
        *("--device", device),
    )
