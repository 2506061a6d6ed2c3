"""A bundle on a board for the duration of one run: measured or tested, never installed."""

import posixpath
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgepack.agent.protocol import BoardModel
from edgepack.bundle.layout import AGENT, MANIFEST
from edgepack.errors import EdgepackError
from edgepack.remote.layout import SCRATCH, root_of
from edgepack.remote.layout import root as root_named
from edgepack.remote.lock import BoardLock, lock
from edgepack.remote.preflight import preflight
from edgepack.remote.session import Session
from edgepack.remote.staging import BytesSent, donors, relatives, stage, unpack_bundle
from edgepack.remote.store import ask, remove
from edgepack.remote.survey import refuse_other_kind, survey
from edgepack.remote.tree import Described, described, listed, removal
from edgepack.remote.workdir import work_path

_RELEASE = "release"  # the bundle's folder in the run's; beside it are folders with inputs and outputs
_TAKING_S = 60  # a folder that has nothing but its lock file may just be taking it
_MANIFEST = posixpath.join(_RELEASE, MANIFEST)
_NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{8}")
_DATA = re.compile(r"edgepack\.\w{6}/(\.?)(input|output)-\d+\.npy(\.[0-9a-f]{8}\.part)?")
_DATA_FOLDER = re.compile(r"edgepack\.\w{6}")
_PART = re.compile(rf"{_RELEASE}/(.+/)?\.(.+)\.[0-9a-f]{{8}}\.part")


@contextmanager
def scratch(
    session: Session,
    bundle: Path,
    *,
    work_dir: str = "edgepack",
    progress: BytesSent | None = None,
    digest: str | None = None,
) -> Iterator[BoardModel]:
    """A bundle's model on the board, unpacked into a folder that is always removed at the end.

    It runs on the device of its target, with one thread unless the caller replaces ``threads``; its inputs and outputs
    are in the same folder. Files that an installed release already has are linked, not sent. Folders of earlier runs that
    were killed are removed first.

    Args:
        session: The board.
        bundle: The ``.edgepack`` file.
        work_dir: Folder for releases on the board, relative to the login directory.
        progress: Called with the bytes sent so far and in total.
        digest: The release digest that the bundle must have, if it was read before.

    Raises:
        PreflightError: The board does not meet the requirements; nothing was sent.
        DeployError: The board could not store it, or its contents differ from what was sent.
        InputError, IntegrityError: The bundle is damaged, or was replaced.
        UnreachableError: The connection was lost.
    """
    base = work_path(work_dir)
    with unpack_bundle(bundle, digest) as source:
        manifest = source.manifest
        name = f"{manifest.digest[:16]}-{secrets.token_hex(4)}"
        folder = posixpath.join(base, SCRATCH, name)
        # The baseline shares files with the release of the same name, too: the runtime is the same.
        roots = dict.fromkeys((root_of(manifest, work_dir), root_named(manifest.name, work_dir)))
        there = {
            posixpath.relpath(posixpath.join(root, "releases", release.name), folder): release
            for root in roots
            for release in survey(session, root).releases
        }
        links = donors(there, manifest)
        size = sum(entry.size for entry in source.entries if entry.path not in links)
        preflight(session, manifest, size, work_dir=work_dir, libraries=source.libraries())
        _remove_ended(session, posixpath.join(base, SCRATCH))
        with lock(session, folder) as held:
            try:
                parts = relatives(there, manifest)
                stage(held, source, folder, _RELEASE, links=links, parts=parts, progress=progress)
                yield BoardModel(
                    session,
                    agent=posixpath.join(folder, _RELEASE, AGENT),
                    model=posixpath.join(folder, _RELEASE, manifest.model),
                    device=manifest.target.device_kind,
                    scratch=folder,
                )
            finally:
                with suppress(EdgepackError):  # a board that was lost is cleaned by its next run
                    held.remove(
                        _own_orders(held, posixpath.join(base, SCRATCH), name), posixpath.join(base, SCRATCH)
                    )


def _remove_ended(session: Session, base: str) -> None:
    """Remove the folders of runs that have ended: they were killed, or lost their connection, and nobody holds their lock.

    Raises:
        DeployError: ``base`` is not a folder.
        UnreachableError: The connection was lost.
    """
    found = ask(session, "list", base, "", _MANIFEST)
    refuse_other_kind(session, base, found)
    free = {line["entry"]: line["age"] for line in found if line.get("lock") == "free"}
    orders: list[str] = []
    for name, it in described(found).items():
        if _NAME.fullmatch(name) and name in free and (_RELEASE in it.tree or free[name] > _TAKING_S):
            orders += [f"claim {name}", *removal(name, it.tree, _own(it))]
    remove(session, base, orders)


def _own_orders(held: BoardLock, base: str, name: str) -> list[str]:
    """Orders to remove the folder of this run."""
    found = described(ask(held.session, "list", base, name, _MANIFEST))
    return [order for it in found.values() for order in removal(name, it.tree, _own(it))]


def _own(it: Described) -> list[str]:
    """The files in a run's folder that edgepack made, and some in folders that may be empty."""
    files = listed(it.manifest) | {MANIFEST}
    found = [".lock", *(f"{_RELEASE}/{path}" for path in files)]
    for path in it.tree:
        part = _PART.fullmatch(path)
        if _DATA.fullmatch(path) or (part and (part[1] or "") + part[2] in files):
            found.append(path)
        elif _DATA_FOLDER.fullmatch(path):
            found.append(f"{path}/input-0.npy")
    return found
