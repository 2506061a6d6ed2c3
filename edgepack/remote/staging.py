"""Copy a bundle's files to a board: existing files are linked, the rest is sent, all are verified."""

import posixpath
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgepack.base.temporary import temporary_folder
from edgepack.bundle import archive
from edgepack.bundle.layout import MANIFEST
from edgepack.bundle.manifest import PLAIN, FileEntry, Manifest
from edgepack.errors import DeployError, IntegrityError
from edgepack.remote import elf
from edgepack.remote.layout import checksums, read_manifest, script
from edgepack.remote.session import Session
from edgepack.spec import SchemaVersionError

BytesSent = Callable[[int, int], None]  # bytes sent so far, bytes in total

# Reads commands from stdin, up to "end"; the checksums follow. Paths of bundles and digests contain no
# spaces (edgepack.bundle.manifest). Releases are never written in place, so they can share files.
_STAGE = """\
mkdir -p "$1" && cd "$1" || exit
stage=$2
while read -r order first second; do
  case $order in
    drop) rm -rf "$first" || exit;;
    dir) mkdir -p "$stage/$first" || exit;;
    link) [ -e "$stage/$first" ] || ln "$second" "$stage/$first" 2>/dev/null || cp -p "$second" "$stage/$first";;
    end) break;;
  esac
done
cd "$stage" && LC_ALL=C sha256sum -c - 2>/dev/null
exit 0
"""
_VERIFY = """\
cd "$1" && LC_ALL=C sha256sum -c - 2>/dev/null
sync -f . 2>/dev/null || sync
exit 0
"""


@dataclass(frozen=True)
class Unpacked:
    """A bundle, verified and unpacked on this machine."""

    manifest: Manifest
    folder: Path

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        """All files of the release, the manifest last."""
        size = len(self.manifest.data)
        own = FileEntry(path=MANIFEST, sha256=self.manifest.digest, size=size, mode=PLAIN)
        return (*self.manifest.files, own)

    def libraries(self) -> frozenset[str]:
        """Shared libraries that the release needs from the board: linked, but not in the bundle.

        Raises:
            IntegrityError: A library in the bundle is damaged.
        """
        own = {posixpath.basename(entry.path) for entry in self.manifest.files}
        linked: set[str] = set()
        for entry in self.manifest.files:
            try:
                linked.update(elf.needed_libraries(self.folder / entry.path))
            except ValueError as error:
                raise IntegrityError(
                    f"{entry.path} in the bundle is damaged",
                    where=self.manifest.filename,
                    why=str(error),
                    state="nothing was sent",
                    next="rebuild the bundle: edgepack package",
                ) from error
        return frozenset(linked - own)


@contextmanager
def unpack_bundle(bundle: Path, digest: str | None = None) -> Iterator[Unpacked]:
    """A bundle unpacked into a temporary folder here; ``digest`` is that of its release, if known.

    Raises:
        InputError, IntegrityError: As ``edgepack.bundle.archive.extract``.
    """
    with temporary_folder() as folder:
        manifest = archive.extract(bundle, folder / "bundle", digest=digest)
        yield Unpacked(manifest, folder / "bundle")


def donors(session: Session, manifest: Manifest, releases: Sequence[str]) -> dict[str, str]:
    """Files on the board with the same contents and mode, by path in ``manifest``."""
    found: dict[tuple[str, int], str] = {}
    for folder in releases:
        try:
            other = read_manifest(session, folder)
        except SchemaVersionError:  # installed by a newer edgepack: files are sent instead of linked
            continue
        for entry in other.files if other else ():
            found[entry.sha256, entry.mode] = posixpath.join(folder, entry.path)
    keys = {entry.path: (entry.sha256, entry.mode) for entry in manifest.files}
    return {path: found[key] for path, key in keys.items() if key in found}


def stage(
    session: Session,
    source: Unpacked,
    base: str,
    folder: str,
    *,
    links: dict[str, str],
    drop: Sequence[str] = (),
    progress: BytesSent | None = None,
) -> int:
    """Copy the release to ``base/folder`` on the board, and verify every file there.

    Intact files are kept, so an interrupted transfer is resumed.

    Args:
        session: The board.
        source: The release.
        base: A folder on the board; created if missing.
        folder: The release's folder, relative to ``base``.
        links: Path in the release to the same file elsewhere on the board, relative to ``base`` (``donors``).
        drop: Folders to remove first, relative to ``base``.
        progress: Called with the bytes sent so far and in total.

    Returns:
        The number of bytes sent.

    Raises:
        DeployError: The board could not store it, or its contents differ from what was sent.
        UnreachableError: The connection was lost; a later call resumes the transfer.
    """
    folders = sorted({posixpath.dirname(entry.path) for entry in source.entries})
    orders = [
        *(f"drop {path}" for path in drop),
        *(f"dir {path or '.'}" for path in folders),
        *(f"link {path} {donor}" for path, donor in sorted(links.items())),
        "end\n",
    ]
    sums = checksums(source.manifest)
    answer = script(session, _STAGE, base, folder, stdin="\n".join(orders) + sums)
    missing = [entry for entry in source.entries if entry.path not in _good(answer)]
    if not missing:
        return 0
    dest = posixpath.join(base, folder)
    total, sent = sum(entry.size for entry in missing), 0

    def advance(size: int) -> None:
        nonlocal sent
        sent += size
        if progress is not None:
            progress(sent, total)

    for entry in missing:
        target = posixpath.join(dest, entry.path)
        session.put(source.folder / entry.path, target, mode=entry.mode, progress=advance)
    good = _good(script(session, _VERIFY, dest, stdin=sums))
    wrong = [entry.path for entry in source.entries if entry.path not in good]
    if wrong:
        raise DeployError(
            f"files on the board differ from what was sent: {', '.join(wrong[:3])}",
            where=session.name,
            why="their sha256 on the board differs from the manifest's: a faulty card or memory",
            state="the current release is unchanged",
            next="check the board's storage (dmesg, fsck), then re-deploy",
        )
    return total


def _good(answer: str) -> frozenset[str]:
    """Paths that ``sha256sum -c`` reports as OK."""
    return frozenset(line.removesuffix(": OK") for line in answer.splitlines() if line.endswith(": OK"))
