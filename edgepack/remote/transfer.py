"""Files to and from a board, through its agent: whole, durable, atomic."""

from collections.abc import Callable
from typing import BinaryIO

from edgepack.agent.protocol import failure_of
from edgepack.base.text import human_size
from edgepack.errors import DeployError, EdgepackError
from edgepack.remote.process import Process, last_lines

ChunkSent = Callable[[int], None]  # called with the number of bytes just sent

_CHUNK = 1 << 17
_MISSING = "no such file or directory"
# What the system says, why, and the next step.
REASONS = (
    ("no space left on device", "the disk is full", "free space on the board, or set another work_dir in devices.yaml"),
    ("quota exceeded", "the quota of the login user is used up", "free space on the board, or set another work_dir in devices.yaml"),
    (_MISSING, "the folder does not exist", "check work_dir in devices.yaml, and that the login user can write there"),
    ("read-only file system", "its file system is read-only", "set work_dir in devices.yaml to a folder that can be written"),
    ("permission denied", "permission denied", "set work_dir in devices.yaml to a folder that the login user can write"),
)  # fmt: skip


def send(
    device: str,
    receiver: Process,
    source: BinaryIO,
    size: int,
    dest: str,
    *,
    progress: ChunkSent | None = None,
) -> None:
    """Send ``size`` bytes to the agent's ``write-file``, which writes them to the disk before the file gets its name.

    Raises:
        DeployError: The board cannot store the file; ``dest`` is unchanged.
        UnreachableError: The connection was lost; ``dest`` is unchanged.
    """
    left = size
    try:
        while left > 0:
            chunk = source.read(min(_CHUNK, left))
            if not chunk:
                raise EdgepackError(f"a file shrank while it was being sent: {left} bytes are missing")
            receiver.stdin.write(chunk)
            left -= len(chunk)
            if progress is not None:
                progress(len(chunk))
    except BrokenPipeError:
        pass  # the agent has ended, and says why; or the connection was lost
    receiver.stdin.close()
    if receiver.wait() != 0:
        said = _said(receiver)
        reason, step = explain(said)
        full = f", {human_size(size)} needed" if "full" in reason else ""
        raise DeployError(
            f"cannot write {dest}",
            where=device,
            why=f"{reason}{full}",
            state="the file is unchanged",
            next=step,
        )


def fetch(device: str, sender: Process, source: str) -> bytes | None:
    """What the agent's ``read-file`` reads from a file; None if there is none.

    Raises:
        EdgepackError: It cannot be read.
        UnreachableError: The connection was lost.
    """
    sender.stdin.close()
    data = sender.read()
    if sender.wait() == 0:
        return data
    failure = failure_of(data.splitlines())
    why = failure.error if failure else last_lines(sender.stderr)
    if _MISSING in why.lower():
        return None
    raise EdgepackError(f"cannot read {source}", where=device, why=why)


def explain(said: str) -> tuple[str, str]:
    """Why a file or a folder cannot be written, and the next step, by what the system says."""
    for words, reason, step in REASONS:
        if words in said.lower():
            return reason, step
    return said or "no message", "check work_dir in devices.yaml, and that the login user can write there"


def _said(process: Process) -> str:
    failure = failure_of(process.read().splitlines())
    return failure.error if failure else last_lines(process.stderr)
