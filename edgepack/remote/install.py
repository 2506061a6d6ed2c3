"""Installing a release on a board, and going back to the one before.

A release lies complete, verified and tried under its own digest before the ``current`` link moves to it
in one rename(2). Until then, and after any failure before it, the board runs what it ran before.
"""

import getpass
import posixpath
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edgepack.bundle.archive import read_manifest as read_bundle
from edgepack.bundle.manifest import Manifest
from edgepack.errors import DeployError, EdgepackError, UnreachableError, UsageError
from edgepack.remote.layout import (
    Inspection,
    checksums,
    inspect,
    read_manifest,
    root_of,
    script,
)
from edgepack.remote.layout import root as root_named
from edgepack.remote.lock import lock
from edgepack.remote.preflight import preflight
from edgepack.remote.scratch import scratch
from edgepack.remote.session import Session
from edgepack.remote.smoke import smoke
from edgepack.remote.staging import BytesSent, Unpacked, donors, stage, unpacked
from edgepack.spec import SchemaVersionError

__all__ = ["Installed", "Release", "install", "releases", "rollback", "scratch"]

KEEP = 3

# Contents reach the disk before anything points at them: file data and names, then the links. A power
# cut between the two renames leaves `previous` equal to `current`, which rollback takes for none.
_PUBLISH = """\
cd "$1" || exit
stage=$2 digest=$3 line=$4
shift 4
rm -rf "releases/$stage.smoke"
if [ "$stage" != "$digest" ]; then mv -T "releases/$stage" "releases/$digest" || exit; fi
sync -f . 2>/dev/null || sync
old=$(readlink current 2>/dev/null)
if [ -n "$old" ] && [ "$old" != "releases/$digest" ]; then
  { ln -sfn "$old" .previous.new && mv -fT .previous.new previous; } || exit
fi
{ ln -sfn "releases/$digest" .current.new && mv -fT .current.new current; } || exit
echo "$line" >>history
for gone; do
  mv -T "releases/$gone" "releases/.gone-$gone" && rm -rf "releases/.gone-$gone"
done
sync -f . 2>/dev/null || sync
exit 0
"""
_DISCARD = """\
cd "$1/releases" || exit
rm -rf "$2.smoke"
case $2 in .*) rm -rf "$2";; esac
"""
_VERIFY = 'cd "$1" && LC_ALL=C sha256sum -c - 2>/dev/null; exit 0'
_HISTORY = re.compile(r"(\S+) (install|rollback) ([0-9a-f]{64}) (\S+) by (.*)")


@dataclass(frozen=True)
class Installed:
    """How an install or rollback ended. Digests are release digests."""

    digest: str
    path: str  # the release's folder on the board
    previous: str | None  # where a rollback would go
    changed: bool
    bytes_sent: int
    seconds: float


@dataclass(frozen=True)
class Release:
    """A release that lies on a board, ready to run."""

    digest: str
    version: str | None  # None where the history does not know it
    installed: str | None  # UTC, ISO 8601, by the clock of whoever installed it; the last time
    current: bool
    previous: bool


def install(
    session: Session,
    bundle: Path,
    *,
    work_dir: str = "edgepack",
    keep: int = KEEP,
    progress: BytesSent | None = None,
) -> Installed:
    """Make a bundle the current release of its name on a board.

    A release that is current already and whole costs one round trip. Otherwise: preflight, lock, send
    what the board lacks, verify every byte there, try one inference, move the link, remove old releases.

    Args:
        session: The board.
        bundle: The ``.edgepack`` file.
        work_dir: Where releases live on the board; relative to the login directory.
        keep: How many releases stay on the board; the current one and the one before always do.
        progress: Told of the bytes sent so far, and to send in all.

    Raises:
        PreflightError: The board cannot take it; nothing was sent.
        DeployError: It failed after that. The board runs what it ran before.
        LockedError: Somebody else is installing.
        InputError, IntegrityError: The bundle is not sound.
        UnreachableError: The connection was lost; what was sent is kept for the next try.
    """
    started = time.monotonic()
    if keep < 1:
        raise UsageError(
            f"keep is {keep}: at least the current release stays on the board", next="keep 1 or more"
        )
    manifest = read_bundle(bundle)
    root = root_of(manifest, work_dir)
    path = posixpath.join(root, "releases", manifest.digest)
    before = inspect(session, root, manifest)
    if not before.intact:
        with unpacked(bundle) as source:
            links = _donors(session, source, root, before)
            size = sum(entry.size for entry in source.entries if entry.path not in links)
            preflight(session, manifest, size, work_dir=work_dir, libraries=source.libraries())
            with lock(session, root):
                before = inspect(session, root, manifest)  # somebody may have been faster
                if not before.intact:
                    sent = _replace(session, source, root, before, links=links, keep=keep, progress=progress)
                    previous = _previous_after(before, manifest.digest)
                    return Installed(
                        manifest.digest,
                        path,
                        previous,
                        changed=True,
                        bytes_sent=sent,
                        seconds=time.monotonic() - started,
                    )
    return Installed(
        manifest.digest,
        path,
        before.previous,
        changed=False,
        bytes_sent=0,
        seconds=time.monotonic() - started,
    )


def rollback(session: Session, name: str, work_dir: str = "edgepack") -> Installed:
    """Make the previous release of ``name`` current again; once more goes forward again.

    Its files are verified and it runs one inference first, like a new release.

    Raises:
        DeployError: There is no previous release, or it is damaged or does not run. Nothing changed.
        SchemaVersionError: A newer edgepack installed it. Nothing changed.
        LockedError: Somebody else is installing.
        UnreachableError: The connection was lost.
    """
    started = time.monotonic()
    root = root_named(name, work_dir)
    if not inspect(session, root).entries:
        raise _nothing_before(session, name, None)
    with lock(session, root):
        before = inspect(session, root)
        digest = before.previous
        if digest is None or digest == before.current:
            raise _nothing_before(session, name, before.current)
        path = posixpath.join(root, "releases", digest)
        manifest = _checked_release(session, path, digest)
        with _discarding(session, root, digest):
            smoke(session, manifest, path)
        _publish(session, root, digest, "rollback", manifest)
    return Installed(
        digest, path, before.current, changed=True, bytes_sent=0, seconds=time.monotonic() - started
    )


def releases(session: Session, name: str, work_dir: str = "edgepack") -> list[Release]:
    """The releases of ``name`` that lie on a board, the last installed first.

    Raises:
        UnreachableError: The connection was lost.
    """
    root = root_named(name, work_dir)
    found = inspect(session, root)
    history = _history(session, root) if found.digests else {}
    order = _oldest_first(found.digests, history)
    return [
        Release(
            digest,
            version=history[digest][1] if digest in history else None,
            installed=history[digest][0] if digest in history else None,
            current=digest == found.current,
            previous=digest == found.previous != found.current,
        )
        for digest in reversed(order)
    ]


def _replace(
    session: Session,
    source: Unpacked,
    root: str,
    before: Inspection,
    *,
    links: dict[str, str],
    keep: int,
    progress: BytesSent | None,
) -> int:
    """Stage, try and publish under the lock; returns the bytes sent."""
    manifest = source.manifest
    # A release that lies there from an earlier install is checked and completed in place: every file
    # that is written arrives by a rename.
    folder = manifest.digest if manifest.digest in before.digests else f".incoming-{manifest.digest}"
    unfinished = [entry for entry in before.entries if entry not in {*before.digests, folder}]
    base = posixpath.join(root, "releases")
    sent = stage(session, source, base, folder, links=links, drop=unfinished, progress=progress)
    with _discarding(session, root, folder):
        smoke(session, manifest, posixpath.join(base, folder))
    gone = _superfluous(session, root, before, manifest.digest, keep)
    _publish(session, root, folder, "install", manifest, gone=gone)
    return sent


def _publish(
    session: Session, root: str, folder: str, action: str, manifest: Manifest, *, gone: Sequence[str] = ()
) -> None:
    """Make the release in ``releases/<folder>`` current, note it down, and remove those in ``gone``."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # ours: many boards have no clock of their own
    owner = f"{getpass.getuser()}@{socket.gethostname()}"
    line = f"{now} {action} {manifest.digest} {manifest.version} by {owner}"
    try:
        script(session, _PUBLISH, root, folder, manifest.digest, line, *gone)
    except UnreachableError as error:
        error.state = f"current is the old release or {manifest.digest[:12]}, whole either way"
        raise


def _donors(session: Session, source: Unpacked, root: str, before: Inspection) -> dict[str, str]:
    base = posixpath.join(root, "releases")
    folders = [posixpath.join(base, digest) for digest in before.digests if digest != source.manifest.digest]
    found = donors(session, source.manifest, folders)
    return {path: posixpath.relpath(donor, base) for path, donor in found.items()}


@contextmanager
def _discarding(session: Session, root: str, folder: str) -> Iterator[None]:
    """Remove an unfinished release that failed its test, and the test's outputs; the error stays the error."""
    try:
        yield
    except EdgepackError:
        with suppress(EdgepackError):  # if the board is gone, the next install removes it
            script(session, _DISCARD, root, folder)
        raise


def _previous_after(before: Inspection, digest: str) -> str | None:
    return before.previous if before.current in {None, digest} else before.current


def _superfluous(session: Session, root: str, before: Inspection, digest: str, keep: int) -> list[str]:
    """Releases to remove: the oldest beyond ``keep``, never the new one nor the one before it."""
    stay = {digest, _previous_after(before, digest)} - {None}
    others = [other for other in before.digests if other not in stay]
    excess = len(others) + len(stay) - keep
    return _oldest_first(others, _history(session, root))[: max(excess, 0)] if excess > 0 else []


def _oldest_first(digests: Sequence[str], history: dict[str, tuple[str, str]]) -> list[str]:
    order = {digest: index for index, digest in enumerate(history)}
    return sorted(digests, key=lambda digest: order.get(digest, -1))


def _history(session: Session, root: str) -> dict[str, tuple[str, str]]:
    """Digest to time and version of its last line; the last installed at the end."""
    data = session.read(posixpath.join(root, "history")) or b""
    found: dict[str, tuple[str, str]] = {}
    for match in map(_HISTORY.fullmatch, data.decode(errors="replace").splitlines()):
        if match:  # a line torn by a power cut says nothing
            found.pop(match[3], None)
            found[match[3]] = (match[1], match[4])
    return found


def _checked_release(session: Session, path: str, digest: str) -> Manifest:
    try:
        manifest = read_manifest(session, path)
    except SchemaVersionError as error:
        error.state = "the release in use was not touched"
        raise
    if manifest is not None and manifest.digest == digest:
        answer = script(session, _VERIFY, path, stdin=checksums(manifest))
        if sum(line.endswith(": OK") for line in answer.splitlines()) == len(manifest.files) + 1:
            return manifest
    raise DeployError(
        f"the previous release {digest[:12]} is damaged",
        where=session.name,
        why="its files on the board are not what its manifest says, or some are missing",
        state="the release in use was not touched",
        next="deploy its bundle again: edgepack deploy",
    )


def _nothing_before(session: Session, name: str, current: str | None) -> DeployError:
    return DeployError(
        f"there is no release of {name} to go back to",
        where=session.name,
        why="only one release was ever installed" if current else "none was ever installed here",
        state=f"{current[:12]} stays current" if current else "nothing was changed",
        next="deploy the bundle you want: edgepack deploy",
    )
