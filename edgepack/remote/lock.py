"""A lock on a folder of a board, so that only one machine changes it at a time.

The lock is flock(2) held by a process on the board: if the client exits or the connection ends, the process ends and
the kernel releases the lock. A client that vanishes without a word, as when it loses its network, is told by its
silence: it sends a heartbeat every few seconds, and the process on the board ends itself without one.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from edgepack.errors import DeployError, LockedError, UnreachableError
from edgepack.remote.layout import owner, script, shell
from edgepack.remote.process import Process
from edgepack.remote.session import Session

_TIMEOUT_S = 60.0
HEARTBEAT_S = 5.0
SILENCE_S = 40  # without a heartbeat: several may be late, behind the data of an upload

# The lock file is opened without following, waiting for or emptying what is in its place, and nobody else's text in it
# is overwritten. On a full disk, the lock is held without its owner's name. Children do not inherit descriptor 9, which
# holds the lock. At each heartbeat, a line, the timer that would kill the shell is replaced.
_LOCK = """\
mkdir -p "$1" && cd "$1" || exit
if [ -L .lock ] || { [ -e .lock ] && [ ! -f .lock ]; }; then
  echo "its .lock is not a regular file" >&2
  exit 1
fi
exec 9<>.lock || exit
if ! flock -n 9; then
  printf 'busy %s\\n' "$(head -n 1 .lock | head -c 400)"
  exit 0
fi
case $(head -c 400 .lock) in
  ""|*@*" since "*" UTC") printf '%s\\n' "$2" >.lock;;
esac
silence=$3
shell=$$
wait_for_silence() {
  (
    trap 'kill "$nap"; exit' TERM
    sleep "$silence" &
    nap=$!
    wait "$nap" && kill -KILL "$shell"
  ) </dev/null >/dev/null 2>&1 9>&- &
  timer=$!
}
echo "held $shell"
wait_for_silence
while read -r _; do
  kill "$timer" 2>/dev/null
  wait "$timer" 2>/dev/null
  wait_for_silence
done
kill "$timer" 2>/dev/null
exit 0
"""
# Whatever a client changes, it changes only while the process that holds its lock is there.
_GUARD = """\
if ! kill -0 "$1" 2>/dev/null; then
  echo "the lock was lost: the board did not hear from this machine for SILENCE s" >&2
  exit 1
fi
shift
""".replace("SILENCE", str(SILENCE_S))


@dataclass(frozen=True)
class BoardLock:
    """A lock that is held."""

    session: Session
    root: str
    process: str  # the number of the process that holds it, on the board

    def script(self, text: str, *arguments: str, stdin: str = "") -> str:
        """Run a shell script that changes something, as ``layout.script``, if the lock is still held.

        Raises:
            DeployError: It failed, or the lock was lost.
            UnreachableError: The connection was lost, or it took too long.
        """
        return script(self.session, _GUARD + text, self.process, *arguments, stdin=stdin)


@contextmanager
def lock(session: Session, root: str) -> Iterator[BoardLock]:
    """Hold the lock of a folder on the board, which is made if it is missing.

    Raises:
        LockedError: Another process holds it; the message says who and since when.
        DeployError: The lock file cannot be created on the board.
        UnreachableError: The connection was lost.
    """
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    argv = shell(_LOCK, root, f"{owner()} since {now}", str(SILENCE_S))
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
    word, rest = "", ""
    try:
        while word not in {"held", "busy"} and (line := holder.readline(_TIMEOUT_S)):
            word, _, rest = (
                line.decode(errors="replace").strip().partition(" ")
            )  # a login script may print, too
    except TimeoutError as error:
        raise UnreachableError(f"no response within {_TIMEOUT_S:g} s", where=session.name) from error
    if word == "busy":
        raise LockedError(
            "another process is changing the releases on this board",
            where=session.name,
            why=rest.strip() or "its owner is unknown",
            state="nothing was changed",
            next=f"wait until it is done; a lock is released within {SILENCE_S} s after its owner exits or is lost",
        )
    if word != "held":
        holder.wait(_TIMEOUT_S)  # raises if the connection was lost
        raise DeployError(
            f"cannot lock {root}",
            where=session.name,
            why=holder.stderr.decode(errors="replace").strip() or "it ended without a message",
            state="nothing was changed",
            next="check work_dir in devices.yaml, and that the login user can write there",
        )
    return rest


def _beat(holder: Process, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT_S):
        try:
            holder.stdin.write(b"\n")
        except BrokenPipeError:  # the connection was lost: whoever uses it next gets the error
            return
