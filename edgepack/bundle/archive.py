"""Bundles as files: pack, read the manifest, verify, extract.

A bundle is a ustar archive in one zstd frame: ``manifest.json`` first, then the files in the manifest's
order. Input is not trusted: sizes are checked before data is read, so a decompression bomb is rejected early.
"""

import errno
import hashlib
import io
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

from edgepack.base.filekind import use_of, wrong_kind
from edgepack.base.temporary import temporary_folder
from edgepack.base.text import human_size
from edgepack.bundle import frame, ustar
from edgepack.bundle.layout import MANIFEST, is_program
from edgepack.bundle.manifest import EXECUTABLE, PLAIN, Contents, FileEntry, Manifest
from edgepack.errors import InputError, IntegrityError, UsageError
from edgepack.spec.document import SchemaVersionError, is_canonical

MAX_MANIFEST = 8 << 20  # bytes
MAX_FILES = 4 << 30  # default limit on the total size of the files, in bytes
_CHUNK = 1 << 20


def pack(out: Path, contents: Contents, files: Mapping[str, Path | bytes]) -> Path:
    """Write a bundle atomically and return ``out``.

    Args:
        out: The bundle; its folder is created if missing.
        contents: The manifest without its list of files.
        files: Path inside the bundle to a file on disk, or its bytes. What lies under ``bin/`` is executable.

    Raises:
        InputError: A file is missing, or changes while it is packed.
        ValueError: A path is not allowed in a bundle.
    """
    entries = tuple(_entry(path, files[path]) for path in sorted(files))
    manifest = Manifest(**{name: getattr(contents, name) for name in Contents.model_fields}, files=entries)
    out.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(out.parent, f".{out.name}.") as folder:
        with (folder / "bundle").open("wb") as file:
            with frame.compressor().stream_writer(file, closefd=False) as tar:
                data = manifest.data
                tar.write(
                    ustar.header(ustar.Header(MANIFEST, len(data), PLAIN)) + data + ustar.padding(len(data))
                )
                for entry in entries:
                    _write_member(tar, entry, files[entry.path])
                tar.write(ustar.END)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        (folder / "bundle").replace(out)
    _sync_folder(out.parent)
    return out


def read_manifest(path: Path) -> Manifest:
    """Read the manifest only: it is the first member, so little else is read. The files are not checked.

    Raises:
        InputError: The file cannot be read, or was written by a newer edgepack.
        IntegrityError: The part that was read is not a valid bundle.
    """
    with _open(path) as reader:
        return _manifest(reader, path)


def verify(path: Path, *, digest: str | None = None, max_bytes: int = MAX_FILES) -> Manifest:
    """Check every byte of a bundle against its manifest, and the manifest against ``digest`` if given.

    Raises:
        InputError: The file cannot be read, or was written by a newer edgepack.
        IntegrityError: What is wrong, and where.
    """
    with _open(path) as reader:
        manifest = _manifest(reader, path, digest=digest)
        for entry, data in _files(reader, manifest, max_bytes):
            _verify_file(entry, data)
        _end(reader)
    return manifest


def read_file(path: Path, name: str, *, digest: str | None = None, max_bytes: int = MAX_FILES) -> bytes:
    """Return one file of a bundle, checked against the manifest; what comes after it is not read.

    With ``digest``, the bundle must still hold the release of this digest.

    Raises:
        InputError: The bundle cannot be read, or has no such file.
        IntegrityError: The part that was read is damaged.
    """
    with _open(path) as reader:
        for entry, data in _files(reader, _manifest(reader, path, digest=digest), max_bytes):
            content = io.BytesIO()
            _verify_file(entry, data, content if entry.path == name else None)
            if entry.path == name:
                return content.getvalue()
    raise InputError(f"the bundle has no file {name}", where=str(path))


def extract(path: Path, dest: Path, *, digest: str | None = None, max_bytes: int = MAX_FILES) -> Manifest:
    """Verify a bundle and unpack it into ``dest``, completely or not at all.

    Args:
        path: The bundle.
        dest: A folder that does not exist yet, or is empty.
        digest: The release digest it must have, if known: a file that was read before may have been replaced since.
        max_bytes: Limit on the unpacked size.

    Raises:
        UsageError: ``dest`` is not empty, or cannot be written.
        InputError: The bundle cannot be read, or was written by a newer edgepack.
        IntegrityError: What is wrong, and where; ``dest`` is unchanged.
    """
    if dest.is_symlink() or (dest.exists() and (not dest.is_dir() or any(dest.iterdir()))):
        raise UsageError(
            "the destination is not an empty folder", where=str(dest), next="choose a new folder"
        )
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(dest.parent, f".{dest.name}.") as temp:
            manifest = _unpack(path, temp, digest, max_bytes)
            temp.chmod(0o755)
            temp.replace(dest)
    except OSError as error:
        raise UsageError("cannot write the destination", where=str(dest), why=error.strerror) from error
    _sync_folder(dest.parent)
    return manifest


def _unpack(path: Path, folder: Path, digest: str | None, max_bytes: int) -> Manifest:
    with _open(path) as reader:
        manifest = _manifest(reader, path, digest=digest)
        total, free = sum(entry.size for entry in manifest.files), shutil.disk_usage(folder).free
        if free < total <= max_bytes:
            raise OSError(
                errno.ENOSPC, f"{human_size(free)} are free, and its files take {human_size(total)}"
            )
        for entry, data in _files(reader, manifest, max_bytes):
            _place(folder, entry, data)
        _end(reader)
    (folder / MANIFEST).write_bytes(manifest.data)
    return manifest


def _entry(path: str, source: Path | bytes) -> FileEntry:
    sha256, size = hashlib.sha256(), 0
    with _source(path, source) as chunks:
        for chunk in chunks:
            sha256.update(chunk)
            size += len(chunk)
    return FileEntry(
        path=path,
        sha256=sha256.hexdigest(),
        size=size,
        mode=EXECUTABLE if is_program(path) else PLAIN,
    )


def _write_member(tar: BinaryIO, entry: FileEntry, source: Path | bytes) -> None:
    tar.write(ustar.header(ustar.Header(entry.path, entry.size, entry.mode)))
    sha256 = hashlib.sha256()
    with _source(entry.path, source) as chunks:
        for chunk in chunks:
            sha256.update(chunk)
            tar.write(chunk)
    if sha256.hexdigest() != entry.sha256:
        raise InputError("the file changed while it was being packed", where=str(source))
    tar.write(ustar.padding(entry.size))


@contextmanager
def _source(path: str, source: Path | bytes) -> Iterator[Iterator[bytes]]:
    """The bytes of one file to pack, in chunks."""
    if isinstance(source, bytes):
        yield iter([source])
        return
    try:
        file = source.open("rb")
    except OSError as error:
        raise InputError(f"cannot pack {path}", where=str(source), why=error.strerror) from error
    with file:
        yield iter(lambda: file.read(_CHUNK), b"")


@contextmanager
def _open(path: Path) -> Iterator[frame.FrameReader]:
    """A reader of the bundle; its errors become an IntegrityError that names the bundle."""
    try:
        with closing(_reader(path)) as reader:
            yield reader
    except ValueError as error:
        why, step = wrong_kind(path, "bundle") or (None, None)
        if use_of(path) not in {None, "bundle"}:
            raise InputError(f"the file is not a bundle: {why}", where=str(path), next=step) from error
        raise IntegrityError(
            "the bundle is damaged",
            where=str(path),
            why=why or str(error),
            state="none of its contents were used",
            next=step or "download it again, or rebuild it with: edgepack package",
        ) from error


def _reader(path: Path) -> frame.FrameReader:
    try:
        return frame.FrameReader(path)
    except FileNotFoundError as error:
        raise InputError("no such bundle", where=str(path)) from error
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError("cannot read the bundle", where=str(path), why=why) from error


def _manifest(reader: frame.FrameReader, path: Path, *, digest: str | None = None) -> Manifest:
    member = ustar.parse(reader.take(ustar.BLOCK))
    if member.name != MANIFEST or member.mode != PLAIN:
        raise ValueError(f"its first member is {member.name!r}, not {MANIFEST}")
    if member.size > MAX_MANIFEST:
        raise ValueError(f"its manifest of {member.size} bytes is above the limit of {MAX_MANIFEST}")
    data = reader.take(member.size)
    _padding(reader, member.size)
    if digest is not None and hashlib.sha256(data).hexdigest() != digest:
        raise ValueError(
            f"its release digest is {hashlib.sha256(data).hexdigest()}, not {digest}: it is another release, "
            "or the file was replaced while it was in use"
        )
    try:
        manifest = Manifest.parse(data, where=f"{path}:{MANIFEST}")
    except SchemaVersionError:
        raise
    except InputError as error:
        raise ValueError(f"{MANIFEST}: {error.message}: {error.why}") from error
    if not is_canonical(data):
        raise ValueError(f"{MANIFEST} is not in its canonical form")
    return manifest


def _files(
    reader: frame.FrameReader, manifest: Manifest, max_bytes: int
) -> Iterator[tuple[FileEntry, Iterator[bytes]]]:
    """Each file in the manifest with its data, which must be read completely before the next file."""
    total = sum(entry.size for entry in manifest.files)
    if total > max_bytes:
        raise ValueError(f"its files take {total} bytes unpacked, above the limit of {max_bytes}")
    for entry in manifest.files:
        block = reader.take(ustar.BLOCK)
        if block == bytes(ustar.BLOCK):
            raise ValueError(f"{entry.path} is missing")
        member = ustar.parse(block)
        if member.name != entry.path:
            raise ValueError(f"found {member.name!r} where the manifest has {entry.path!r}")
        if (member.size, member.mode) != (entry.size, entry.mode):
            raise ValueError(
                f"{entry.path} has size {member.size} and mode {member.mode:o}, "
                f"the manifest says {entry.size} and {entry.mode:o}"
            )
        yield entry, _bytes(reader, entry.size)
        _padding(reader, entry.size)


def _bytes(reader: frame.FrameReader, size: int) -> Iterator[bytes]:
    while size:
        chunk = reader.take(min(size, _CHUNK))
        size -= len(chunk)
        yield chunk


def _padding(reader: frame.FrameReader, size: int) -> None:
    zeros = ustar.padding(size)
    if reader.take(len(zeros)) != zeros:
        raise ValueError("hidden bytes between two members")


def _end(reader: frame.FrameReader) -> None:
    block = reader.take(ustar.BLOCK)
    if block != bytes(ustar.BLOCK):
        raise ValueError(f"{ustar.parse(block).name!r} is not in the manifest, or appears twice")
    if reader.take(ustar.BLOCK) != bytes(ustar.BLOCK) or reader.some(1):
        raise ValueError("hidden bytes after the last member")


def _verify_file(entry: FileEntry, data: Iterator[bytes], out: BinaryIO | None = None) -> None:
    sha256 = hashlib.sha256()
    for chunk in data:
        sha256.update(chunk)
        if out:
            out.write(chunk)
    if sha256.hexdigest() != entry.sha256:
        raise ValueError(f"{entry.path} has sha256 {sha256.hexdigest()}, the manifest says {entry.sha256}")


def _place(root: Path, entry: FileEntry, data: Iterator[bytes]) -> None:
    """Write one file below ``root``, a new folder of our own, which contains no links."""
    path = root / entry.path
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        _verify_file(entry, data, file)
        os.fchmod(file.fileno(), entry.mode)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Sync ``folder``, so that a rename inside it survives a power failure."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
