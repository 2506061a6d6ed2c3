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
from edgepack.remote.layout import SCRATCH, root_of, script_bytes
from edgepack.remote.layout import root as root_named
from edgepack.remote.lock import lock
from edgepack.remote.preflight import preflight
from edgepack.remote.session import Session
from edgepack.remote.staging import BytesSent, donors, relatives, stage, unpack_bundle
from edgepack.remote.survey import refuse_other_kind, survey
from edgepack.remote.tree import DESCRIBE, Described, described, listed, removal, remove, sections
from edgepack.remote.workdir import work_path

_RELEASE = "release"  # the bundle's folder in the run's; beside it are folders with inputs and outputs
# The run's own folder, or those of other runs whose lock nobody holds: they were killed, or lost their connection. One
# that has nothing but its lock file may just be taking it.
_LIST = (
    DESCRIBE
    + f"""\
say "is $(kind "$1")"
[ "$(kind "$1")" = folder ] && cd "$1" || exit 0
own=$2
set --
for entry in *-*; do
  case $entry in *[!0-9a-f-]*) continue;; esac
  [ "$(kind "$entry")" = folder ] && [ "$(kind "$entry/.lock")" = file ] || continue
  if [ -n "$own" ]; then
    [ "$entry" = "$own" ] || continue
  else
    [ -d "$entry/{_RELEASE}" ] || [ -n "$(find "./$entry" -prune -mmin +1)" ] || continue
    flock -n "$entry/.lock" true || continue
  fi
  set -- "$@" "./$entry"
  manifest "$entry/{_RELEASE}" "$entry"
done
[ $# = 0 ] || trees "$@"
exit 0
"""
)
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
        _remove(session, posixpath.join(base, SCRATCH))
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
                    _remove(session, posixpath.join(base, SCRATCH), name)


def _remove(session: Session, base: str, name: str = "") -> None:
    """Remove the folder of this run, or without ``name`` those of runs that have ended.

    Raises:
        DeployError: ``base`` is not a folder.
        UnreachableError: The connection was lost.
    """
    mark = secrets.token_hex(8)
    found = list(sections(script_bytes(session, f"mark=$3\n{_LIST}", base, name, mark), mark))
    refuse_other_kind(session, base, found)
    orders: list[str] = []
    for entry, it in described(found).items():
        if _NAME.fullmatch(entry):
            orders += removal(entry, it.tree, _own(it))
    remove(lambda text, *rest, stdin: script_bytes(session, text, *rest, stdin=stdin).decode(), base, orders)


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
