"""A lock on a board, so that only one machine changes its releases at a time.

The lock is flock(2) held by a process on the board for the duration of the session: if the client dies,
the connection breaks or the board loses power, the kernel releases it. So a lock is never stale.
"""

import getpass
import posixpath
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from edgepack.errors import DeployError, LockedError, UnreachableError
from edgepack.remote.session import Session

_TIMEOUT_S = 60.0

# Opened for appending: only the holder may overwrite the previous holder's name. `cat` inherits the
# lock with descriptor 9, and runs until our end of stdin is closed.
_LOCK = """\
mkdir -p "$1" || exit
exec 9>>"$1/.lock" || exit
if ! flock -n 9; then
  echo "busy $(cat "$1/.lock")"
  exit 0
fi
echo "$2" >"$1/.lock"
echo held
exec cat >/dev/null
"""


@contextmanager
def lock(session: Session, root: str) -> Iterator[None]:
    """Hold the lock of one release's folder on the board.

    Raises:
        LockedError: Another process holds it; the message says who and since when.
        DeployError: The lock file cannot be created on the board.
        UnreachableError: The connection was lost.
    """
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    owner = f"{getpass.getuser()}@{socket.gethostname()} since {now}"
    with session.stream(["/bin/sh", "-c", _LOCK, "edgepack", root, owner]) as holder:
        try:
            answer = holder.readline(_TIMEOUT_S).decode(errors="replace").strip()
        except TimeoutError as error:
            raise UnreachableError(f"no response within {_TIMEOUT_S:g} s", where=session.name) from error
        if answer.startswith("busy"):
            raise LockedError(
                "another process is changing the releases on this board",
                where=session.name,
                why=answer.removeprefix("busy").strip() or "its owner is unknown",
                state="nothing was changed",
                next=f"wait until it is done; {posixpath.join(root, '.lock')} is released when its owner exits",
            )
        if answer != "held":
            holder.wait(_TIMEOUT_S)  # raises if the connection was lost
            raise DeployError(
                f"cannot lock {root}",
                where=session.name,
                why=holder.stderr.decode(errors="replace").strip() or answer,
                state="nothing was changed",
                next="check work_dir in devices.yaml, and that the login user can write there",
            )
        yield
        holder.stdin.close()
        # The work is done; if the connection breaks now, the board releases the lock.
        with suppress(TimeoutError, UnreachableError):
            holder.wait(_TIMEOUT_S)
