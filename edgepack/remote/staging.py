"""Copy a bundle's files to a board: existing files are linked, of others only new parts are sent, all are verified."""

import posixpath
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.npy import parse_npy
from edgepack.base.temporary import temporary_folder
from edgepack.bundle import archive
from edgepack.bundle.layout import KERNELS, MANIFEST, sample_input, sample_output
from edgepack.bundle.manifest import PLAIN, FileEntry, Manifest
from edgepack.errors import DeployError, InputError, IntegrityError
from edgepack.remote import elf
from edgepack.remote.deltas import Receiver, send
from edgepack.remote.lock import BoardLock
from edgepack.remote.survey import BoardFolder
from edgepack.remote.tree import EXTRA, FILES, described, differences, expected, folders_of
from edgepack.spec import Tensor
from edgepack.spec.kernels import KernelList

if TYPE_CHECKING:
    import numpy as np

BytesSent = Callable[[int, int], None]  # bytes sent so far, bytes in total


@dataclass(frozen=True)
class Unpacked:
    """A bundle, verified and unpacked on this machine."""

    bundle: Path
    manifest: Manifest
    folder: Path

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        """All files of the release, the manifest last."""
        size = len(self.manifest.data)
        own = FileEntry(path=MANIFEST, sha256=self.manifest.digest, size=size, mode=PLAIN)
        return (*self.manifest.files, own)

    def sample(self) -> tuple[list["np.ndarray"], list["np.ndarray"]]:
        """The inputs of the sample and its expected outputs, in the manifest's order, shapes and dtypes.

        Raises:
            InputError: An array is missing, damaged, or of another shape or dtype.
        """
        inputs = [self._array(sample_input(index), it) for index, it in enumerate(self.manifest.inputs)]
        outputs = [self._array(sample_output(index), it) for index, it in enumerate(self.manifest.outputs)]
        return inputs, outputs

    def kernels(self) -> KernelList:
        """The list of the model's kernels.

        Raises:
            InputError: The bundle is of a version without it, or it is damaged.
        """
        path = self.folder / KERNELS
        if not path.is_file():
            raise InputError(
                "the bundle has no list of its kernels",
                where=str(self.bundle),
                why=f"it was built by an older edgepack, without {KERNELS}",
                next="rebuild it: edgepack package",
            )
        return KernelList.load(path)

    def _array(self, path: str, tensor: Tensor) -> "np.ndarray":
        try:
            array = parse_npy((self.folder / path).read_bytes())
            wrong = (array.shape, array.dtype.name) != (tensor.shape, tensor.dtype)
            why = f"it is {array.dtype.name}{list(array.shape)}" if wrong else None
        except FileNotFoundError:
            why = "the bundle has no such file"
        except ValueError as error:
            why = str(error)
        if why is not None:
            raise InputError(
                f"{path} is not a sample of {tensor.name}, {tensor.dtype}{list(tensor.shape)}",
                where=str(self.bundle),
                why=why,
                next="rebuild the bundle: edgepack package",
            )
        return array

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
                    where=str(self.bundle),
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
        yield Unpacked(bundle, manifest, folder / "bundle")


def donors(folders: Mapping[str, BoardFolder], manifest: Manifest) -> dict[str, str]:
    """Files on the board that can be shared, by path in ``manifest``: the same contents and mode by their own manifest.

    Args:
        folders: Releases on the board by their paths, which are kept in the result.
        manifest: The release that needs files.
    """
    found: dict[tuple[str, int], str] = {}
    for path, folder in folders.items():
        for entry in folder.manifest.files if folder.manifest else ():
            if folder.tree.get(entry.path) == f"{entry.mode:o}":
                found[entry.sha256, entry.mode] = posixpath.join(path, entry.path)
    keys = {entry.path: (entry.sha256, entry.mode) for entry in manifest.files}
    return {path: found[key] for path, key in keys.items() if key in found}


def relatives(folders: Mapping[str, BoardFolder], manifest: Manifest) -> dict[str, str]:
    """Files on the board that may share parts with those in ``manifest``: the last ones of the same path.

    Args:
        folders: Releases on the board by their paths, which are kept in the result, the last installed one at the end.
        manifest: The release that needs files.
    """
    return {
        entry.path: posixpath.join(path, entry.path)
        for path, folder in folders.items()
        for entry in manifest.files
        if folder.tree.get(entry.path) in FILES
    }


def stage(
    held: BoardLock,
    source: Unpacked,
    base: str,
    folder: str,
    *,
    links: Mapping[str, str],
    parts: Mapping[str, str],
    resume: bool = False,
    progress: BytesSent | None = None,
) -> int:
    """Copy the release to ``base/folder`` on the board, and verify every file there.

    Intact files are kept, so an interrupted transfer is resumed. The manifest goes first: it tells whose files the
    others are, if the transfer is interrupted.

    Args:
        held: The lock of the folder that ``base`` is in.
        source: The release.
        base: A folder on the board; created if missing.
        folder: The name of a new folder in ``base`` for the release.
        resume: The folder is that of an interrupted transfer of this release, with nothing foreign in it.
        links: Path in the release to the same file elsewhere on the board, relative to ``base`` (``donors``).
        parts: Path in the release to a file on the board that may have parts of it (``relatives``), as in ``links``.
        progress: Called with the bytes sent so far and in total, before compression.

    Returns:
        The number of bytes sent, before compression.

    Raises:
        DeployError: The board could not store it, or its contents differ from what was sent.
        UnreachableError: The connection was lost; a later call resumes the transfer.
    """
    session, dest = held.session, posixpath.join(base, folder)
    at_first = 0 if resume else source.entries[-1].size
    if not resume:
        held.ask("open", held.below(dest), source.manifest.digest, stdin=source.manifest.data)
    orders = [
        *(f"folder {path}" for path in folders_of(entry.path for entry in source.entries)),
        *(f"link {path} ../{donor}" for path, donor in sorted(links.items())),
    ]
    wrong = _compare(held, "fill", dest, source.manifest, stdin="\n".join(orders).encode())
    missing = [entry for entry in source.entries if entry.path in wrong]
    total = sent = at_first

    def announce(size: int) -> None:
        nonlocal total
        total += size

    def advance(size: int) -> None:
        nonlocal sent
        sent += size
        if progress is not None:
            progress(sent, total)

    if missing:
        there = Receiver(session, session.agent(), dest, held.command("receive", held.below(dest)))
        files = {source.folder / entry.path: entry for entry in missing}
        older = {entry.path: f"../{parts[entry.path]}" for entry in missing if entry.path in parts}
        send(there, files, older, announce, advance)
    faults = check(held, base, folder, source.manifest)
    if faults:
        raise DeployError(
            f"files on the board differ from what was sent: {'; '.join(faults[:3])}",
            where=session.name,
            why="a faulty card or memory, or another program changed them",
            next="check the board's storage (dmesg, fsck), then re-deploy",
        )
    return total


def check(held: BoardLock, base: str, folder: str, manifest: Manifest, *, extra: bool = False) -> list[str]:
    """How a folder on the board differs from a release, after all is written to the board's disk.

    Files, kinds, modes and contents are compared; with ``extra``, further files in the folder are accepted.

    Raises:
        DeployError: The board could not write it to its disk.
        UnreachableError: The connection was lost.
    """
    faults = _compare(held, "check", posixpath.join(base, folder), manifest)
    return [f"{path} {fault}" for path, fault in faults.items() if not (extra and fault == EXTRA)]


def _compare(
    held: BoardLock, action: str, folder: str, manifest: Manifest, *, stdin: bytes = b""
) -> dict[str, str]:
    """Fill or check a folder, and compare it with a release: what is wrong, by path."""
    path = held.below(folder)
    found = described(held.ask(action, path, stdin=stdin))[path]
    return differences(found.tree, expected(manifest), found.sound(manifest))
