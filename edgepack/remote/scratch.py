"""A bundle on a board for the duration of one run: measured or tested, never installed."""

import posixpath
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgepack.agent.protocol import BoardModel
from edgepack.bundle.layout import AGENT
from edgepack.errors import DeployError, UnreachableError
from edgepack.remote.layout import SCRATCH, inspect, root_of, script, work_path
from edgepack.remote.preflight import preflight
from edgepack.remote.session import Session
from edgepack.remote.staging import BytesSent, donors, stage, unpack_bundle

# A client that was killed leaves its folder behind; after a day it is no longer in use.
_REMOVE = """\
cd "$1" || exit
rm -rf "$2"
find . -mindepth 1 -maxdepth 1 -mmin +1440 -exec rm -rf {} +
"""


@contextmanager
def scratch(
    session: Session, bundle: Path, *, work_dir: str = "edgepack", progress: BytesSent | None = None
) -> Iterator[BoardModel]:
    """A bundle's model on the board, unpacked into a folder that is always removed at the end.

    It runs on the device of its target, with one thread unless the caller replaces ``threads``. Files that an
    installed release already has are linked, not sent. ``progress`` is called with the bytes sent so far and in total.

    Raises:
        PreflightError: The board does not meet the requirements; nothing was sent.
        DeployError: The board could not store it, or its contents differ from what was sent.
        InputError, IntegrityError: The bundle is damaged.
        UnreachableError: The connection was lost.
    """
    base = work_path(work_dir)
    with unpack_bundle(bundle) as source:
        manifest = source.manifest
        # The baseline shares files with the release of the same name, too: the runtime is the same.
        roots = dict.fromkeys((root_of(manifest, work_dir), posixpath.join(base, manifest.name)))
        releases = [
            posixpath.join(posixpath.relpath(root, base), "releases", digest)
            for root in roots
            for digest in inspect(session, root).digests
        ]
        links = donors(session, manifest, [posixpath.join(base, release) for release in releases])
        links = {path: posixpath.relpath(donor, base) for path, donor in links.items()}
        size = sum(entry.size for entry in source.entries if entry.path not in links)
        preflight(session, manifest, size, work_dir=work_dir, libraries=source.libraries())
        folder = posixpath.join(SCRATCH, f"{manifest.digest[:16]}-{secrets.token_hex(4)}")
        try:
            stage(session, source, base, folder, links=links, progress=progress)
            yield BoardModel(
                session,
                agent=posixpath.join(base, folder, AGENT),
                model=posixpath.join(base, folder, manifest.model),
                device=manifest.target.device_kind,
            )
        finally:
            # A board that was lost is cleaned by its next scratch run, see _REMOVE.
            with suppress(UnreachableError, DeployError):
                script(session, _REMOVE, posixpath.join(base, SCRATCH), posixpath.basename(folder))
