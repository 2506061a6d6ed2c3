"""A lock on a folder of a board, so that only one machine changes it at a time.

The lock is flock(2) held by the agent on the board: if the client exits or the connection ends, the process ends and
the kernel releases the lock. A client that vanishes without a word, as when it loses its network, is told by its
silence: it sends a heartbeat every few seconds, and the process on the board ends itself without one. Whatever a client
changes, it changes only while that process is there.
"""

import json
import posixpath
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from edgepack.errors import DeployError, LockedError, UnreachableError
from edgepack.remote import store
from edgepack.remote.layout import owner
from edgepack.remote.process import Process
from edgepack.remote.session import Session

_TIMEOUT_S = 60.0
HEARTBEAT_S = 5.0


@dataclass(frozen=True)
class BoardLock:
    """A lock that is held."""

    session: Session
    root: str
    process: str  # the number of the process that holds it, on the board

    def ask(self, action: str, *words: str, stdin: bytes = b"") -> list[store.Line]:
        """Run an action of the agent's ``store`` that changes something, if the lock is still held.

        Raises:
            DeployError: It failed, or the lock was lost.
            UnreachableError: The connection was lost, or it took too long.
        """
        return store.ask(self.session, action, self.root, self.process, *words, stdin=stdin)

    def remove(self, orders: Sequence[str], base: str | None = None) -> list[str]:
        """As ``store.remove``, in the locked folder or ``base``, if the lock is still held."""
        return store.remove(self.session, base or self.root, orders, lock=(self.root, self.process))

    def command(self, action: str, *words: str) -> list[str]:
        """The command line of an action that changes something, and fails if the lock is not held any more."""
        return store.command(self.session, action, self.root, self.process, *words)

    def below(self, path: str) -> str:
        """A path on the board, relative to the locked folder."""
        return posixpath.relpath(path, self.root)


@contextmanager
def lock(session: Session, root: str) -> Iterator[BoardLock]:
    """Hold the lock of a folder on the board, which is made if it is missing.

    Raises:
        LockedError: Another process holds it; the message says who and since when.
        DeployError: The lock file cannot be created on the board.
        UnreachableError: The connection was lost.
    """
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    argv = store.command(session, "lock", root, f"{owner()} since {now}", str(store.SILENCE_S))
    with session.stream(argv) as holder:
        held = BoardLock(session, root, _holding(session, root, holder))
        ended = threading.Event()
        threading.Thread(target=_beat, args=(holder, ended), name="edgepack-lock", daemon=True).start()
        try:
            yield held
        finally:
            ended.set()
        holder.stdin.close()
        # The work is done; if the connection breaks now, the board releases the lock.
        with suppress(TimeoutError, UnreachableError):
            holder.wait(_TIMEOUT_S)


def _holding(session: Session, root: str, holder: Process) -> str:
    """The number of the process that holds the lock, once it does."""
    try:
        line = holder.readline(_TIMEOUT_S)
    except TimeoutError as error:
        raise UnreachableError(f"no response within {_TIMEOUT_S:g} s", where=session.name) from error
    answer = json.loads(line) if line.endswith(b"\n") else {}
    if answer.get("held"):
        return str(answer["process"])
    if answer.get("ok"):
        raise LockedError(
            "another process is changing the releases on this board",
            where=session.name,
            why=answer["owner"].strip() or "its owner is unknown",
            state="nothing was changed",
            next=f"wait until it is done; a lock is released within {store.SILENCE_S} s after its owner exits or is lost",
        )
    holder.wait(_TIMEOUT_S)  # raises if the connection was lost
    raise DeployError(
        f"cannot lock {root}",
        where=session.name,
        why=store.reason([line], holder.stderr) or "it ended without a message",
        state="nothing was changed",
        next="check work_dir in devices.yaml, and that the login user can write there",
    )


def _beat(holder: Process, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT_S):
        try:
            holder.stdin.write(b"\n")
        except BrokenPipeError:  # the connection was lost: whoever uses it next gets the error
            return
