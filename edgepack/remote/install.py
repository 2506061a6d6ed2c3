"""Install a release on a board, and roll back to the previous one.

A release is complete, verified and tested in a folder of its own before the ``current`` link is moved to it with one
rename(2). Until then, and after any earlier failure, the board runs its previous release.
"""

import posixpath
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edgepack.bundle.archive import read_manifest
from edgepack.bundle.manifest import Manifest
from edgepack.errors import DeployError, EdgepackError, IntegrityError, UnreachableError, UsageError
from edgepack.remote.blame import blame
from edgepack.remote.layout import root as root_named
from edgepack.remote.layout import root_of
from edgepack.remote.lock import BoardLock, lock
from edgepack.remote.preflight import preflight
from edgepack.remote.publish import discard, prune, publish, sweep
from edgepack.remote.session import Session
from edgepack.remote.smoke import smoke
from edgepack.remote.staging import BytesSent, Unpacked, check, donors, relatives, stage, unpack_bundle
from edgepack.remote.survey import BoardFolder, Survey, refuse_obstacles, survey

KEEP = 3


@dataclass(frozen=True)
class Installed:
    """The result of an install or rollback. Digests are release digests."""

    digest: str
    path: str  # the release's folder on the board
    previous: str | None  # the release that a rollback would restore
    changed: bool
    bytes_sent: int
    seconds: float
    notes: tuple[str, ...] = ()  # damage that was found, and releases that could not be removed


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
    digest: str | None = None,
    built_here: bool = False,
) -> Installed:
    """Make a bundle the current release of its name on a board.

    If it is already current and intact, in files, kinds, modes and contents, this takes one round trip, after one at the
    start of the session that finds the agent. Otherwise:
    preflight, lock, send missing files, verify every byte on the board, run one inference, move the link, remove old
    releases. A release on the board is never changed: if the current one is damaged, a new copy replaces it.

    Args:
        session: The board.
        bundle: The ``.edgepack`` file. If it is replaced meanwhile, the release that it held first is installed, or none.
        work_dir: Folder for releases on the board, relative to the login directory.
        keep: Number of releases to keep on the board; the current and the previous one are always kept.
        progress: Called with the bytes sent so far and in total.
        digest: The release digest that the bundle must have, if it was read before.
        built_here: Whether this machine built it. If its test inference fails on the board, it is then run here, too, so
            that the error says which of the two is wrong.

    Raises:
        PreflightError: The board does not meet the requirements; nothing was sent.
        DeployError: It failed after that. The error's ``state`` says what the board runs.
        LockedError: Another process is installing.
        InputError, IntegrityError: The bundle is damaged, or was replaced.
        UnreachableError: The connection was lost; a later call resumes the transfer.
    """
    started = time.monotonic()
    if keep < 1:
        raise UsageError(f"keep must be at least 1 (got {keep})", next="the current release is always kept")
    manifest = _manifest_of(bundle, digest)
    root = root_of(manifest, work_dir)
    found = survey(session, root, manifest)
    if found.damage(manifest) != {}:
        refuse_obstacles(session, root, found)
        with unpack_bundle(bundle, manifest.digest) as source:
            source.sample()  # the test inference needs it
            size = sum(entry.size for entry in source.entries if entry.path not in _shared(found, manifest))
            preflight(session, manifest, size, work_dir=work_dir, libraries=source.libraries())
            with lock(session, root) as held:
                found = survey(session, root, manifest)  # another process may have been faster
                if found.damage(manifest) != {}:
                    found, sent, notes = _replace(
                        held, source, found, keep=keep, progress=progress, built_here=built_here
                    )
                    return _installed(found, root, started, changed=True, sent=sent, notes=notes)
    return _installed(found, root, started)


def rollback(session: Session, name: str, work_dir: str = "edgepack") -> Installed:
    """Make the previous release of ``name`` current; a second rollback undoes the first.

    Its files are verified and one inference is run first, as for a new release.

    Raises:
        DeployError: There is no previous release, or it is damaged or does not run. The error's ``state`` says what
            the board runs.
        SchemaVersionError: A newer edgepack installed it. Nothing changed.
        LockedError: Another process is installing.
        UnreachableError: The connection was lost.
    """
    started = time.monotonic()
    root = root_named(name, work_dir)
    found = survey(session, root)
    refuse_obstacles(session, root, found)
    if not found.folders:
        raise _nothing_before(session, name, found)
    with lock(session, root) as held:
        found = survey(session, root)
        refuse_obstacles(session, root, found)
        target = found.previous
        if target is None:
            raise _nothing_before(session, name, found)
        with _told(session, root, found):
            sweep(held, found)
            manifest = _checked(held, target)
            smoke(held, manifest, posixpath.join(root, "releases", target.name))
            publish(held, found, manifest, staged=target.name, release=target.name, action="rollback")
        found = survey(session, root)
    return _installed(found, root, started, changed=True)


def releases(session: Session, name: str, work_dir: str = "edgepack") -> list[Release]:
    """The releases of ``name`` on a board, the last installed first.

    Raises:
        UnreachableError: The connection was lost.
    """
    found = survey(session, root_named(name, work_dir))
    switches = {switch.digest: switch for switch in found.history}
    current = found.running.digest if found.running and found.running.finished else None
    previous = found.previous.digest if found.previous else None
    return [
        Release(
            digest,
            version=switches[digest].version if digest in switches else None,
            installed=switches[digest].when if digest in switches else None,
            current=digest == current,
            previous=digest == previous,
        )
        for digest in dict.fromkeys(folder.digest for folder in reversed(found.releases))
    ]


def _manifest_of(bundle: Path, digest: str | None) -> Manifest:
    manifest = read_manifest(bundle)
    if digest is not None and manifest.digest != digest:
        raise IntegrityError(
            "the bundle was replaced while it was in use",
            where=str(bundle),
            why=f"its release is {manifest.digest[:12]}, and was {digest[:12]}",
            state="nothing was sent to the board",
            next="deploy it when nothing writes to it any more",
        )
    return manifest


def _replace(
    held: BoardLock,
    source: Unpacked,
    found: Survey,
    *,
    keep: int,
    progress: BytesSent | None,
    built_here: bool,
) -> tuple[Survey, int, list[str]]:
    """Stage, test and publish under the lock; returns the state after it, the bytes sent, and notes."""
    session, manifest = held.session, source.manifest
    base = posixpath.join(held.root, "releases")
    refuse_obstacles(session, held.root, found)
    sent = 0
    with _told(session, held.root, found):
        ready = _intact(held, found, manifest)
        if ready is not None:
            sweep(held, found)
            staged = release = ready
        else:
            resumed = _interrupted(found, manifest)
            sweep(held, found, keep=resumed)
            staged = resumed or found.free_name(f".incoming-{manifest.digest}")
            release = found.free_name(manifest.digest)
            there = {folder.name: folder for folder in found.releases}
            sent = stage(
                held,
                source,
                base,
                staged,
                links=donors(there, manifest),
                parts=relatives(there, manifest),
                resume=resumed is not None,
                progress=progress,
            )
        try:
            smoke(held, manifest, posixpath.join(base, staged))
        except EdgepackError as error:
            if staged != release:
                with suppress(EdgepackError):  # if the connection is lost, the next install removes it
                    discard(held, staged, manifest)
            if built_here and isinstance(error, DeployError):
                raise blame(error, source.folder, manifest) from error
            raise
        publish(held, found, manifest, staged=staged, release=release, action="install")
    notes = [_damage(found, manifest)] if found.damage(manifest) else []
    found = survey(session, held.root)
    notes += prune(held, found, keep)
    return found, sent, notes


def _installed(
    found: Survey,
    root: str,
    started: float,
    *,
    changed: bool = False,
    sent: int = 0,
    notes: list[str] | None = None,
) -> Installed:
    return Installed(
        digest=found.running.digest if found.running else "",
        path=posixpath.join(root, "releases", found.current or ""),
        previous=found.previous.digest if found.previous else None,
        changed=changed,
        bytes_sent=sent,
        seconds=time.monotonic() - started,
        notes=tuple(notes or ()),
    )


def _shared(found: Survey, manifest: Manifest) -> dict[str, str]:
    """Files that releases on the board have already, relative to ``releases/``."""
    return donors({folder.name: folder for folder in found.releases}, manifest)


def _intact(held: BoardLock, found: Survey, manifest: Manifest) -> str | None:
    """The folder of an intact copy of a release that is not current."""
    for folder in found.releases:
        candidate = folder.digest == manifest.digest and folder.name != found.current and not folder.faults
        if candidate and not check(held, posixpath.join(held.root, "releases"), folder.name, manifest):
            return folder.name
    return None


def _interrupted(found: Survey, manifest: Manifest) -> str | None:
    """The folder of an interrupted transfer of a release, if nothing else is in it."""
    for folder in found.folders.values():
        ours = folder.digest == manifest.digest and folder.listed and not folder.foreign
        if ours and folder.name.startswith(".incoming-"):
            return folder.name
    return None


def _damage(found: Survey, manifest: Manifest) -> str:
    faults = [f"{path} {fault}" for path, fault in (found.damage(manifest) or {}).items()]
    more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""  # noqa: PLR2004 - enough to recognise the cause
    return f"the current release was damaged ({'; '.join(faults[:3])}{more}); a new copy replaced it"


def _checked(held: BoardLock, target: BoardFolder) -> Manifest:
    """The manifest of the release to roll back to, whose own files are intact."""
    if target.manifest is None and target.refusal is not None:
        raise target.refusal
    faults = ["its manifest is missing"]
    if target.manifest is not None:
        faults = check(held, posixpath.join(held.root, "releases"), target.name, target.manifest, extra=True)
    if target.manifest is None or faults:
        raise DeployError(
            f"the previous release {target.digest[:12]} is damaged",
            where=held.session.name,
            why="; ".join(faults[:3]),
            next="re-deploy its bundle: edgepack deploy",
        )
    return target.manifest


@contextmanager
def _told(session: Session, root: str, before: Survey) -> Iterator[None]:
    """Let an error say what the board runs, after a look at it."""
    try:
        yield
    except EdgepackError as error:
        error.state = _state(session, root, before) or error.state
        raise


def _state(session: Session, root: str, before: Survey) -> str | None:
    """What the board runs, compared with before; None if it cannot be asked."""
    if not session.alive:
        return None
    running = before.running
    try:
        now = survey(session, root, running.manifest if running else None)
    except (DeployError, UnreachableError):
        return None
    if now.current != before.current:
        was = before.current[:12] if before.current else "none"
        return f"the current release is {now.current[:12] if now.current else 'none'}, and was {was} before"
    if now.current is None:
        return "no release is current, as before"
    if running is None or running.manifest is None:
        return f"current still points to {now.current[:12]}"
    if now.damage(running.manifest):
        return f"{now.current[:12]} is still current, and is damaged: {', '.join(now.damage(running.manifest) or ())}"
    return f"the current release {now.current[:12]} is unchanged"


def _nothing_before(session: Session, name: str, found: Survey) -> DeployError:
    return DeployError(
        f"there is no previous release of {name} to roll back to",
        where=session.name,
        why="only one release has been installed" if found.current else "no release has been installed",
        state=f"{found.current[:12]} is still current" if found.current else "nothing was changed",
        next="deploy a bundle: edgepack deploy",
    )
