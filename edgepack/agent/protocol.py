"""Client of the agent on a board: typed results of ``info``, ``run`` and ``bench``.

``measure`` is a stream, used by ``edgepack.tuning.runner``. The protocol is documented in
docs/agent-protocol.md; ``PROTOCOL`` must equal ``PROTOCOL_VERSION`` in agent.h.
"""

import io
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from pydantic import ValidationError

from edgepack.agent.results import (
    BenchEnd,
    BenchRaw,
    BenchSample,
    BenchStart,
    BoardFacts,
    BoardInfo,
    Failure,
    Ran,
    State,
    Throttling,
    Zone,
)
from edgepack.base.npy import parse_npy
from edgepack.base.temporary import temporary_folder
from edgepack.errors import AgentError, TimedOutError
from edgepack.spec import Spec

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "PROTOCOL",
    "BenchRaw",
    "BoardFacts",
    "BoardInfo",
    "BoardModel",
    "BoardShell",
    "CommandResult",
    "DeviceKind",
    "Linking",
    "State",
    "Throttling",
    "Zone",
    "bench",
    "board_facts",
    "info",
    "linking",
    "run",
]

PROTOCOL = 1

DeviceKind = Literal["cpu", "cuda"]
Linking = Literal["dynamic", "static"]


def linking(executor: str) -> Linking:
    """Return how the agent of a release is linked, by what executes the model: with a model of its own runtime, statically."""
    return "static" if executor == "aot" else "dynamic"


# Of one inference on a GPU, before it is measured: a kernel that never ends can only be told by time.
FIRST_TIMEOUT_S = 300.0

# The next step, by the kind of the agent's failure.
_NEXT = {
    "usage": "the agent on the board may have a different version: re-deploy the bundle",
    "input": "check the inputs' number, shapes and dtypes against the bundle's manifest",
    "model": "recompile the model for this target; `edgepack devices info` shows what the board has",
    "output": "free space on the board, or choose another work_dir in devices.yaml",
    "device": "install the JetPack release of the target, or build for the board's CPU",
    "crash": "check that the target matches the board; `edgepack devices info` shows its CPU",
}
# The same for failures of the GPU, by words of the message.
_NEXT_OF_GPU = {
    "out of memory": "free memory on the board, which CPU and GPU share: end other programs, or build a smaller model",
    "NO_BINARY_FOR_GPU": "build for the compute capability of the board's GPU: edgepack targets",
    "Error: ": "the GPU may have been reset: see the driver's messages (dmesg), reboot the board and try again",
}
GPU_HANGS = "a kernel may never end, or the board is overloaded: see the driver's messages (dmesg), reboot the board and try again"
_CUDA_ERROR = re.compile(r"CUDA ?\w* ?Error: .*")
_SIGNAL_BASE = 128  # a shell's exit code for "ended by signal N" is 128 + N


class CommandResult(Protocol):
    """The result of a command on the board."""

    @property
    def returncode(self) -> int: ...  # noqa: D102 - as in subprocess

    @property
    def stdout(self) -> bytes: ...  # noqa: D102 - as in subprocess

    @property
    def stderr(self) -> bytes: ...  # noqa: D102 - as in subprocess


class BoardShell(Protocol):
    """The part of ``edgepack.remote.session.Session`` that this module uses."""

    name: str

    def run(self, argv: Sequence[str], *, timeout: float | None = None, check: bool = False) -> CommandResult:
        """Run a command and wait for it."""

    def put_bytes(self, data: bytes, dest: str) -> None:
        """Send bytes as a file."""

    def get(self, source: str, dest: Path) -> None:
        """Fetch a file."""

    def agent(self) -> str:
        """The path of this edgepack's own agent on the board, which makes and removes folders."""


@dataclass(frozen=True)
class BoardModel:
    """A compiled model on a board with its agent and run settings.

    Attributes:
        session: A connection to the board.
        agent: The agent's path on the board.
        model: The compiled model's path on the board.
        device: The kind of device that kernels run on.
        threads: Threads of TVM's pool.
        cores: Cores that ``bench`` pins the process to; if empty, the scheduler and TVM's pool choose.
        scratch: The folder on the board in which a folder for inputs and outputs is made while a command runs.
        timeout: Seconds for each command on the board; None for no limit.
    """

    session: BoardShell
    agent: str
    model: str
    device: DeviceKind = "cpu"
    threads: int = 1
    cores: tuple[int, ...] = ()
    scratch: str = "."
    timeout: float | None = None

    @property
    def pinning(self) -> list[str]:
        """The agent's arguments for the cores."""
        return ["--cores", ",".join(map(str, self.cores))] if self.cores else []

    def command(self, do: Literal["run", "bench", "profile"], *words: str) -> list[str]:
        """The agent's command line for this model, with further arguments."""
        options = ["--model", self.model, "--threads", str(self.threads), "--device", self.device]
        return [self.agent, do, *options, *words]


Line = TypeVar("Line", bound=Spec)


def info(session: BoardShell, agent: str, *, work_dir: str = ".") -> BoardInfo:
    """Probe the board.

    Args:
        session: A connection to the board.
        agent: The agent's path on the board.
        work_dir: The folder for releases, whose free space is reported.

    Raises:
        AgentError: The agent failed or speaks another protocol.
    """
    (line,) = command_lines(session, "info", [agent, "info", "--work-dir", work_dir], 60.0, count=1)
    check_protocol(session, line)
    return parse_line(session, "info", BoardInfo, line)


def board_facts(session: BoardShell, agent: str, work_dir: str, libraries: Sequence[str]) -> BoardFacts:
    """Facts that decide whether a release can be stored and run.

    Args:
        session: A connection to the board.
        agent: The agent's path on the board.
        work_dir: The folder for releases, which need not exist.
        libraries: Names of shared libraries to look for.

    Raises:
        AgentError: The agent failed.
    """
    (line,) = command_lines(session, "facts", [agent, "facts", "", work_dir, *libraries], 60.0, count=1)
    return parse_line(session, "facts", BoardFacts, line)


def run(on: BoardModel, inputs: Mapping[str, "np.ndarray"], *, each: bool = False) -> list["np.ndarray"]:
    """Run the model on the board and fetch its outputs.

    Args:
        on: The model on its board.
        inputs: The model's inputs, in its own order; with the model's shapes, or with ``each``
            with a leading axis of N samples.
        each: Run once per sample; the outputs are stacked the same way.

    Raises:
        AgentError: The model or the agent failed; its message is in ``why``.
    """
    with upload_inputs(on, inputs) as (folder, words):
        argv = on.command("run", *words, "--output-dir", folder, *(["--each"] if each else []))
        (line,) = command_lines(on.session, "run", argv, on.timeout, count=1)
        ran = parse_line(on.session, "run", Ran, line)
        with temporary_folder() as here:
            outputs = []
            for index in range(len(ran.outputs)):
                local = here / f"output-{index}.npy"
                on.session.get(f"{folder}/{local.name}", local)
                outputs.append(_output(on.session, local))
    return outputs


def bench(
    on: BoardModel, inputs: Mapping[str, "np.ndarray"], *, warmup: int = 10, runs: int = 100
) -> BenchRaw:
    """Measure the model's latency on the board.

    Args:
        on: The model on its board.
        inputs: The model's inputs, in its own order and shapes.
        warmup: Untimed inferences after the first one.
        runs: Timed inferences.

    Raises:
        AgentError: The model or the agent failed; its message is in ``why``.
    """
    session = on.session
    with upload_inputs(on, inputs) as (folder, words):
        if on.device == "cuda":
            _try_once(on, [*words, "--output-dir", folder])
        argv = on.command("bench", *words, "--warmup", str(warmup), "--runs", str(runs), *on.pinning)
        first, *samples, last = command_lines(session, "bench", argv, on.timeout, count=runs + 2)
    check_protocol(session, first)
    start = parse_line(session, "bench", BenchStart, first)
    end = parse_line(session, "bench", BenchEnd, last)
    return BenchRaw(
        load_ms=start.load_ms,
        first_ms=start.first_ms,
        samples_ns=tuple(parse_line(session, "bench", BenchSample, line).ns for line in samples),
        warmup=start.warmup,
        threads=start.threads,
        peak_rss_kib=end.peak_rss_kib,
        outputs=end.outputs,
        before=start.before,
        after=end.after,
    )


def _try_once(on: BoardModel, words: list[str]) -> None:
    """Run one inference with a time limit."""
    try:
        command_lines(on.session, "run", on.command("run", *words), FIRST_TIMEOUT_S, count=1)
    except TimedOutError as error:
        raise AgentError(
            f"the model did not finish an inference within {FIRST_TIMEOUT_S:g} s",
            where=on.session.name,
            state="the agent was killed",
            next=GPU_HANGS,
        ) from error


def _output(session: BoardShell, path: Path) -> "np.ndarray":
    try:
        return parse_npy(path.read_bytes())
    except ValueError as error:
        raise AgentError(
            f"the agent's run wrote an invalid {path.name}",
            where=session.name,
            why=str(error),
            next="the agent on the board may have a different version: re-deploy the bundle",
        ) from error


@contextmanager
def upload_inputs(on: BoardModel, inputs: Mapping[str, "np.ndarray"]) -> Iterator[tuple[str, list[str]]]:
    """A temporary folder on the board with the inputs, and the agent's arguments for them."""
    import numpy as np

    session = on.session
    folder = f"{on.scratch}/edgepack.{secrets.token_hex(3)}"
    command_lines(session, "make-folder", [session.agent(), "make-folder", folder], 60.0, count=1)
    try:
        words = []
        for index, array in enumerate(inputs.values()):
            buffer = io.BytesIO()
            np.save(buffer, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False)
            session.put_bytes(buffer.getvalue(), f"{folder}/input-{index}.npy")
            words += ["--input", f"{folder}/input-{index}.npy"]
        yield folder, words
    finally:
        session.run([session.agent(), "remove-folder", folder], timeout=60.0)


def command_lines(
    session: BoardShell, command: str, argv: list[str], timeout: float | None, *, count: int | None
) -> list[bytes]:
    """Run the agent and return its ``count`` result lines; None for any number from 2.

    Raises:
        AgentError: It failed, was killed, or wrote a different number of lines.
    """
    done = session.run(argv, timeout=timeout)
    lines = done.stdout.splitlines()
    if done.returncode != 0:
        raise _failed(session, command, done, lines)
    if len(lines) != count and (count is not None or len(lines) < 2):  # noqa: PLR2004 - a first and a last one
        raise AgentError(
            f"the agent's {command} wrote {len(lines)} lines, not {count or 'at least 2'}",
            where=session.name,
            why=done.stderr.decode(errors="replace").strip()[-400:] or None,
            next="the agent on the board may have a different version: re-deploy the bundle",
        )
    return lines


def _failed(session: BoardShell, command: str, done: CommandResult, lines: list[bytes]) -> AgentError:
    failure = failure_of(lines)
    if failure is None:
        code = done.returncode
        killed = f"by signal {code - _SIGNAL_BASE}" if code > _SIGNAL_BASE else f"with exit code {code}"
        if code < 0:  # the shell around it was killed, too: sshd then reports no number
            killed = "by a signal"
        return AgentError(
            f"the agent's {command} ended {killed} without a message",
            where=session.name,
            why=done.stderr.decode(errors="replace").strip()[-400:] or "no output",
            next="the board may be out of memory; `edgepack devices info` shows its state",
        )
    why, step = explain(failure, done.stderr)
    return AgentError(
        f"the agent's {command} failed",
        where=session.name,
        why=why,
        next=step,
    )


def failure_of(lines: Sequence[bytes]) -> Failure | None:
    """What the agent says of its failure in its last line; None if it was killed before it could."""
    try:
        return Failure.model_validate_json(lines[-1] if lines else b"")
    except ValidationError:
        return None


def explain(failure: Failure, stderr: bytes) -> tuple[str, str | None]:
    """Why the agent failed, and what the user can do about it.

    TVM ends the process if a call of CUDA fails while it cleans up; the error is then only in ``stderr``.
    """
    why = failure.error
    said = _CUDA_ERROR.search(stderr.decode(errors="replace")) if failure.kind == "crash" else None
    if said is not None:
        why = f"{why}: {said[0]}"
    if (said is not None or failure.kind == "device") and "cannot be loaded" not in why:
        step = next((step for words, step in _NEXT_OF_GPU.items() if words in why), None)
        if step is not None:
            return why, step
    return why, _NEXT.get(failure.kind)


class _Version(Spec, extra="ignore"):
    protocol: int


def check_protocol(session: BoardShell, line: bytes) -> None:
    version = parse_line(session, "info", _Version, line).protocol
    if version != PROTOCOL:
        raise AgentError(
            f"the agent uses protocol {version}, this edgepack uses {PROTOCOL}",
            where=session.name,
            next="re-deploy with this edgepack, which includes its own agent",
        )


def parse_line(session: BoardShell, command: str, model: type[Line], line: bytes) -> Line:
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        raise AgentError(
            f"the agent's {command} wrote an invalid line",
            where=session.name,
            why=f"{error.errors()[0]['msg']}: {line[:200]!r}",
            next="the agent on the board may have a different version: re-deploy the bundle",
        ) from error
