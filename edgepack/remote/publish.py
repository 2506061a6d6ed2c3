"""The change of a board from one release to another, and what is removed before and after it."""

import secrets
from datetime import UTC, datetime

from edgepack.bundle.manifest import Manifest
from edgepack.errors import UnreachableError
from edgepack.remote.deltas import part_name
from edgepack.remote.layout import owner
from edgepack.remote.lock import BoardLock
from edgepack.remote.survey import BoardFolder, Survey
from edgepack.remote.tree import FILES, expected, removal


def publish(
    held: BoardLock, found: Survey, manifest: Manifest, *, staged: str, release: str, action: str
) -> None:
    """Rename ``releases/<staged>`` to ``releases/<release>`` and make it current.

    ``previous`` then points to what was current, and a line is added to the history.

    Raises:
        DeployError: It failed, and the links are as before.
        UnreachableError: The connection was lost; ``current`` is one of the two releases.
    """
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # our clock: many boards have none
    line = f"{now} {action} {manifest.digest} {manifest.version} by {owner()}"
    old, before = _target(found.current), _target(found.linked)
    after = _target(_previous_after(found, manifest))
    try:
        held.ask("publish", staged, release, old, before, after, secrets.token_hex(4), line)
    except UnreachableError as error:
        error.state = f"current is the old release or {manifest.digest[:12]}, complete in both cases"
        raise


def _previous_after(found: Survey, manifest: Manifest) -> str | None:
    """The release to roll back to: what is current, or if that is damaged or the same release, what was before it."""
    running, previous = found.running, found.previous
    if running is None or running.digest == manifest.digest or not running.finished:
        return previous.name if previous else None
    if running.faults and previous is not None and previous.digest != manifest.digest:
        return previous.name
    return running.name


def sweep(held: BoardLock, found: Survey, keep: str | None = None) -> None:
    """Remove what earlier installs left when they were cut off, except files that edgepack did not make.

    ``keep`` is the folder of a transfer that is resumed: what is continued stays in it.
    """
    orders = [f"link {name}" for name in found.temporaries]
    for folder in found.folders.values():
        if folder.name == keep:
            files = folder.manifest.files if folder.manifest else ()
            continued = {part_name(entry) for entry in files if entry.path not in folder.tree}
            orders += [f"file releases/{keep}/{path}" for path in folder.own - folder.listed - continued]
        elif folder.name.startswith(".") and (folder.listed or not folder.digest):
            orders += removal(f"releases/{folder.name}", folder.tree, folder.own | folder.listed)
    held.remove(orders)


def prune(held: BoardLock, found: Survey, keep: int) -> list[str]:
    """Remove old releases, after a new one became current, but those with files that edgepack did not make; returns notes.

    Args:
        held: The lock.
        found: The state of the board now.
        keep: Number of releases to keep; the current and the previous one always are.
    """
    stay = {found.current, found.linked, found.previous and found.previous.name}
    kept = {folder.digest for folder in found.releases if folder.name in stay}
    superfluous: list[BoardFolder] = []
    for folder in reversed(found.releases):
        if folder.name in stay:
            continue
        if folder.digest in kept or len(kept) >= keep:  # a damaged copy of a release goes, too
            superfluous.append(folder)
        else:
            kept.add(folder.digest)
    orders: list[str] = []
    for folder in superfluous:
        if not folder.foreign:
            aside = f"releases/{found.free_name(f'.gone-{folder.digest}')}"
            orders += [
                f"move releases/{folder.name} {aside}",
                *removal(aside, folder.tree, folder.own | folder.listed),
            ]
    failed = held.remove(orders)
    foreign = [folder.digest[:12] for folder in superfluous if folder.foreign]
    return [
        *(f"{digest} was not removed: it has files that edgepack did not make" for digest in foreign),
        *(f"an old release was not removed: {why}" for why in failed),
    ]


def discard(held: BoardLock, folder: str, manifest: Manifest) -> None:
    """Remove a release that was staged in ``releases/<folder>`` and does not work."""
    tree = expected(manifest)
    held.remove(removal(f"releases/{folder}", tree, [path for path in tree if tree[path] in FILES]))


def _target(folder: str | None) -> str:
    """What a link to a release's folder points to; empty for no link."""
    return f"releases/{folder}" if folder else ""
