"""Install a release on a board, and roll back to the previous one.

A release is complete, verified and tested in a folder named by its digest before the ``current`` link is moved
to it with one rename(2). Until then, and after any earlier failure, the board runs its previous release.
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
from edgepack.remote.staging import BytesSent, Unpacked, donors, stage, unpack_bundle
from edgepack.spec import SchemaVersionError

__all__ = ["Installed", "Release", "install", "releases", "rollback", "scratch"]

KEEP = 3

# Contents are synced to disk before any link points to them. A power failure between the two renames
# leaves `previous` equal to `current`, which rollback treats as no previous release.
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
    """The result of an install or rollback. Digests are release digests."""

    digest: str
    path: str  # the release's folder on the board
    previous: str | None  # the release that a rollback would restore
    changed: bool
    bytes_sent: int
    seconds: float


@dataclass(frozen=True)
class Release:
    """A complete release on a board."""

    digest: str
    version: str | None  # None if it is not in the history
    installed: str | None  # UTC, ISO 8601, of the last install, by the installing machine's clock
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

    If it is already current and intact, this takes one round trip. Otherwise: preflight, lock, send missing
    files, verify every byte on the board, run one inference, move the link, remove old releases.

    Args:
        session: The board.
        bundle: The ``.edgepack`` file.
        work_dir: Folder for releases on the board, relative to the login directory.
        keep: Number of releases to keep on the board; the current and the previous one are always kept.
        progress: Called with the bytes sent so far and in total.

    Raises:
        PreflightError: The board does not meet the requirements; nothing was sent.
        DeployError: It failed after that. The board runs its previous release.
        LockedError: Another process is installing.
        InputError, IntegrityError: The bundle is damaged.
        UnreachableError: The connection was lost; a later call resumes the transfer.
    """
    started = time.monotonic()
    if keep < 1:
        raise UsageError(f"keep must be at least 1 (got {keep})", next="the current release is always kept")
    manifest = read_bundle(bundle)
    root = root_of(manifest, work_dir)
    path = posixpath.join(root, "releases", manifest.digest)
    before = inspect(session, root, manifest)
    if not before.intact:
        with unpack_bundle(bundle) as source:
            links = _donors(session, source, root, before)
            size = sum(entry.size for entry in source.entries if entry.path not in links)
            preflight(session, manifest, size, work_dir=work_dir, libraries=source.libraries())
            with lock(session, root):
                before = inspect(session, root, manifest)  # another process may have been faster
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
    """Make the previous release of ``name`` current; a second rollback undoes the first.

    Its files are verified and one inference is run first, as for a new release.

    Raises:
        DeployError: There is no previous release, or it is damaged or does not run. Nothing changed.
        SchemaVersionError: A newer edgepack installed it. Nothing changed.
        LockedError: Another process is installing.
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
    """The releases of ``name`` on a board, the last installed first.

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
    """Stage, test and publish under the lock; returns the bytes sent."""
    manifest = source.manifest
    # A release from an earlier install is verified and completed in place: every file
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
    """Make the release in ``releases/<folder>`` current, add it to the history, and remove those in ``gone``."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # our clock: many boards have none
    owner = f"{getpass.getuser()}@{socket.gethostname()}"
    line = f"{now} {action} {manifest.digest} {manifest.version} by {owner}"
    try:
        script(session, _PUBLISH, root, folder, manifest.digest, line, *gone)
    except UnreachableError as error:
        error.state = f"current is the old release or {manifest.digest[:12]}, complete in both cases"
        raise


def _donors(session: Session, source: Unpacked, root: str, before: Inspection) -> dict[str, str]:
    base = posixpath.join(root, "releases")
    folders = [posixpath.join(base, digest) for digest in before.digests if digest != source.manifest.digest]
    found = donors(session, source.manifest, folders)
    return {path: posixpath.relpath(donor, base) for path, donor in found.items()}


@contextmanager
def _discarding(session: Session, root: str, folder: str) -> Iterator[None]:
    """Remove an unfinished release that failed its test, and the test's outputs; errors are ignored."""
    try:
        yield
    except EdgepackError:
        with suppress(EdgepackError):  # if the connection is lost, the next install removes it
            script(session, _DISCARD, root, folder)
        raise


def _previous_after(before: Inspection, digest: str) -> str | None:
    return before.previous if before.current in {None, digest} else before.current


def _superfluous(session: Session, root: str, before: Inspection, digest: str, keep: int) -> list[str]:
    """Releases to remove: the oldest beyond ``keep``, never the new or the previous one."""
    stay = {digest, _previous_after(before, digest)} - {None}
    others = [other for other in before.digests if other not in stay]
    excess = len(others) + len(stay) - keep
    return _oldest_first(others, _history(session, root))[: max(excess, 0)] if excess > 0 else []


def _oldest_first(digests: Sequence[str], history: dict[str, tuple[str, str]]) -> list[str]:
    order = {digest: index for index, digest in enumerate(history)}
    return sorted(digests, key=lambda digest: order.get(digest, -1))


def _history(session: Session, root: str) -> dict[str, tuple[str, str]]:
    """Time and version of the last install, by digest; the last installed at the end."""
    data = session.read(posixpath.join(root, "history")) or b""
    found: dict[str, tuple[str, str]] = {}
    for match in map(_HISTORY.fullmatch, data.decode(errors="replace").splitlines()):
        if match:  # a line that is incomplete after a power failure is ignored
            found.pop(match[3], None)
            found[match[3]] = (match[1], match[4])
    return found


def _checked_release(session: Session, path: str, digest: str) -> Manifest:
    try:
        manifest = read_manifest(session, path)
    except SchemaVersionError as error:
        error.state = "the current release is unchanged"
        raise
    if manifest is not None and manifest.digest == digest:
        answer = script(session, _VERIFY, path, stdin=checksums(manifest))
        if sum(line.endswith(": OK") for line in answer.splitlines()) == len(manifest.files) + 1:
            return manifest
    raise DeployError(
        f"the previous release {digest[:12]} is damaged",
        where=session.name,
        why="its files on the board do not match its manifest, or some are missing",
        state="the current release is unchanged",
        next="re-deploy its bundle: edgepack deploy",
    )


def _nothing_before(session: Session, name: str, current: str | None) -> DeployError:
    return DeployError(
        f"there is no previous release of {name} to roll back to",
        where=session.name,
        why="only one release has been installed" if current else "no release has been installed",
        state=f"{current[:12]} is still current" if current else "nothing was changed",
        next="deploy a bundle: edgepack deploy",
    )
