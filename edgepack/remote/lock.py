"""One installer at a time on a board, whoever's machine it runs on.

The lock is flock(2) held by a process on the board that lives as long as our session: when the client
dies, the connection breaks or the board loses power, the kernel lets go. So a lock is never stale.
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

# Opened for appending: only the holder may write its name over the last holder's. `cat` inherits the
# lock with descriptor 9, and lasts until our end closes.
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
        LockedError: Somebody else holds it; the message says who and since when.
        DeployError: The board cannot lock there.
        UnreachableError: The connection was lost.
    """
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    owner = f"{getpass.getuser()}@{socket.gethostname()} since {now}"
    with session.stream(["/bin/sh", "-c", _LOCK, "edgepack", root, owner]) as holder:
        try:
            answer = holder.readline(_TIMEOUT_S).decode(errors="replace").strip()
        except TimeoutError as error:
            raise UnreachableError(f"no answer within {_TIMEOUT_S:g} s", where=session.name) from error
        if answer.startswith("busy"):
            raise LockedError(
                "somebody else is changing the releases on this board",
                where=session.name,
                why=answer.removeprefix("busy").strip() or "its owner left no name",
                state="nothing was changed",
                next=f"wait until it is done; {posixpath.join(root, '.lock')} frees itself when its owner is gone",
            )
        if answer != "held":
            holder.wait(_TIMEOUT_S)  # raises when it is the connection that failed
            raise DeployError(
                f"cannot lock {root}",
                where=session.name,
                why=holder.stderr.decode(errors="replace").strip() or answer,
                state="nothing was changed",
                next="check work_dir in devices.yaml, and that the login user may write there",
            )
        yield
        holder.stdin.close()
        # What the lock was for is done; if the connection breaks now, the board frees it by itself.
        with suppress(TimeoutError, UnreachableError):
            holder.wait(_TIMEOUT_S)
