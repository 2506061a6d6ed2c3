"""The agent's ``store`` on a board: one action, answered in JSON lines. docs/agent-protocol.md lists the actions."""

import json
from collections.abc import Sequence
from typing import Any

from edgepack.agent.protocol import failure_of
from edgepack.errors import DeployError
from edgepack.remote.process import last_lines
from edgepack.remote.session import Session

Line = dict[str, Any]

TIMEOUT_S = 600.0  # of actions that hash or remove a release on a slow card
SILENCE_S = 40  # a lock is given up without a heartbeat: several may be late, behind the data of an upload


def command(session: Session, action: str, *words: str) -> list[str]:
    """The command line of an action."""
    return [session.agent(), "store", action, *words]


def ask(session: Session, action: str, *words: str, stdin: bytes = b"") -> list[Line]:
    """Run an action on the board; returns the lines of its answer but the last.

    Raises:
        DeployError: It failed.
        UnreachableError: The connection was lost, or it took too long.
    """
    done = session.run(command(session, action, *words), stdin=stdin, timeout=TIMEOUT_S)
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines:
        raise DeployError(
            "a step on the board failed",
            where=session.name,
            why=reason(lines, done.stderr) or f"the agent ended with exit code {done.returncode}",
            next="correct the cause, then re-deploy",
        )
    return [json.loads(line) for line in lines[:-1]]


def reason(lines: Sequence[bytes], stderr: bytes) -> str:
    """Why an action failed, by its last line; empty if it was killed without a word."""
    failure = failure_of(lines)
    if failure is None:
        return last_lines(stderr)
    if failure.kind == "lock":
        return f"{failure.error}: the board did not hear from this machine for {SILENCE_S} s"
    return failure.error


def remove(
    session: Session, base: str, orders: Sequence[str], *, lock: tuple[str, str] = ("", "")
) -> list[str]:
    """Carry out orders that ``edgepack.remote.tree.removal`` writes, in a folder; returns what could not be removed, and why.

    ``lock`` is a locked folder and the process that holds its lock, if there is one.

    Raises:
        DeployError: The lock was lost, or ``base`` cannot be opened.
        UnreachableError: The connection was lost.
    """
    if not orders:
        return []
    lines = ask(session, "remove", *lock, base, stdin="".join(f"{order}\n" for order in orders).encode())
    return [f"{line['path']}: {line['error']}" for line in lines]
