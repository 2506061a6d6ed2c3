"""Send files to a board that has older versions of them: only the chunks that it lacks, compressed by zstd.

The agent lists the chunks of what the board has (``chunks``), and builds the files from them and from what it is sent
(``receive``): docs/agent-protocol.md. What arrived before a cut is kept, and is not sent again.
"""

import json
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

from edgepack.agent.protocol import failure_of
from edgepack.bundle.manifest import EXECUTABLE, FileEntry
from edgepack.errors import DeployError
from edgepack.remote.chunks import Chunk, finer, parse_lists, split
from edgepack.remote.process import last_lines
from edgepack.remote.session import Session
from edgepack.remote.store import TIMEOUT_S

FRAME = 1 << 20  # bytes that are compressed at once; the agent holds two of them
LEVEL = 12

ChunkSent = Callable[[int], None]

_Index = dict[tuple[bytes, int], tuple[str, int]]  # a chunk's digest and size: a file that has it, and where


@dataclass(frozen=True)
class Receiver:
    """Where files are built.

    Attributes:
        session: The board.
        agent: The path of its static agent.
        folder: The folder that files are sent to, in which their folders exist.
        receive: The command line that builds files there.
    """

    session: Session
    agent: str
    folder: str
    receive: Sequence[str]

    @property
    def chunks(self) -> list[str]:
        """The command line that lists the chunks of files there."""
        return [self.agent, "chunks", "--work-dir", self.folder]


@dataclass(frozen=True)
class Piece:
    """A range of a new file: to copy from ``source`` at ``at``, or to send if there is no source; sizes in bytes."""

    offset: int
    size: int
    source: str | None = None
    at: int = 0


@dataclass(frozen=True)
class Rebuild:
    """How a file is built: what is kept, copied and sent.

    Attributes:
        entry: The file, with its path on the board.
        path: Its contents here.
        kept: Bytes of an interrupted transfer that it begins with.
        pieces: What follows, in order.
    """

    entry: FileEntry
    path: Path
    kept: int
    pieces: tuple[Piece, ...]

    @property
    def sent(self) -> int:
        """Bytes to send, before compression."""
        return sum(piece.size for piece in self.pieces if piece.source is None)


def send(
    board: Receiver,
    files: Mapping[Path, FileEntry],
    donors: Mapping[str, str],
    announce: Callable[[int], None],
    progress: ChunkSent,
) -> None:
    """Build files on the board, each complete, verified and on its disk, or not at all.

    Args:
        board: Where to.
        files: Contents here, and what becomes of them on the board.
        donors: Path of a file to another one on the board that may have parts of it, both relative to its folder.
        announce: Called with the bytes to send, before compression, before they are sent; again if some are sent anew.
        progress: Called with the bytes just sent.

    Raises:
        DeployError: The board cannot store them.
        UnreachableError: The connection was lost; a later call continues the transfer.
    """
    plans = make_plans(board, files, donors)
    wrong = _build(board, plans, announce, progress)
    if wrong:
        # A donor changed meanwhile, or two chunks have equal digests: once more, without donors.
        again = {path: entry for path, entry in files.items() if entry.path in wrong}
        _build(board, [_whole(path, entry) for path, entry in again.items()], announce, progress)


def make_plans(board: Receiver, files: Mapping[Path, FileEntry], donors: Mapping[str, str]) -> list[Rebuild]:
    """Ask the board for the chunks that it has, and find them in the files.

    Raises:
        DeployError: The agent failed.
        UnreachableError: The connection was lost.
    """
    older = {entry.path: entry for entry in files.values() if entry.path in donors}
    parts = [f"{finer(entry.size)} {part_name(entry)}\n" for entry in files.values()]
    others = [f"{finer(entry.size)} {donors[path]}\n" for path, entry in older.items()]
    done = board.session.run(board.chunks, stdin="".join(parts + others).encode(), timeout=TIMEOUT_S)
    if done.returncode != 0:
        raise _failed(board, done.returncode, done.stdout.splitlines(), done.stderr)
    try:
        lists = parse_lists(done.stdout, len(parts) + len(others))
    except ValueError as error:
        raise DeployError(
            "the agent's list of chunks is damaged", where=board.session.name, why=str(error)
        ) from error
    index: _Index = {}
    for path, chunks in zip(older, lists[len(parts) :], strict=True):
        _remember(index, donors[path], chunks)
    plans = []
    for (source, entry), kept in zip(files.items(), lists[: len(parts)], strict=True):
        chunks = list(split(_contents(source), finer(entry.size)))
        plans.append(make_plan(entry, source, chunks, kept, index))
        _remember(index, entry.path, chunks)  # it is complete when the next one is built
    return plans


def _remember(index: _Index, path: str, chunks: Sequence[Chunk]) -> None:
    for chunk in chunks:
        index.setdefault((chunk.digest, chunk.size), (path, chunk.offset))


def make_plan(
    entry: FileEntry,
    path: Path,
    chunks: Sequence[Chunk],
    kept: Sequence[Chunk],
    index: Mapping[tuple[bytes, int], tuple[str, int]],
) -> Rebuild:
    """How to build a file.

    Args:
        entry: The file on the board.
        path: Its contents here.
        chunks: Those of its contents.
        kept: Those of what an interrupted transfer left of it.
        index: Where the board has a chunk, by digest and size: a path and an offset.
    """
    same = 0
    while same < min(len(chunks), len(kept)) and chunks[same] == kept[same]:
        same += 1
    pieces: list[Piece] = []
    for chunk in chunks[same:]:
        source, at = index.get((chunk.digest, chunk.size), (None, 0))
        last = pieces[-1] if pieces else None
        if last and last.source == source and (source is None or last.at + last.size == at):
            pieces[-1] = Piece(last.offset, last.size + chunk.size, source, last.at)
        else:
            pieces.append(Piece(chunk.offset, chunk.size, source, at))
    return Rebuild(entry, path, sum(chunk.size for chunk in chunks[:same]), tuple(pieces))


def _whole(path: Path, entry: FileEntry) -> Rebuild:
    return Rebuild(entry, path, 0, (Piece(0, entry.size),))


def part_name(entry: FileEntry) -> str:
    """The name of the file until it is complete."""
    folder, name = posixpath.split(entry.path)
    return posixpath.join(folder, f".{name}.{entry.sha256[:8]}.part")


@dataclass
class Frames:
    """The stream of orders for ``receive``, in frames.

    Attributes:
        write: Takes the bytes of frames.
    """

    write: Callable[[bytes], object]
    _held: bytearray = field(default_factory=bytearray)
    _sources: dict[str, int] = field(default_factory=dict)
    _compressor: zstandard.ZstdCompressor = field(
        default_factory=lambda: zstandard.ZstdCompressor(level=LEVEL, write_checksum=False)
    )

    def file(self, plan: Rebuild, progress: ChunkSent) -> None:
        """The orders that build a file."""
        entry, path = plan.entry, plan.entry.path.encode()
        self._add(b"F", number(len(path)), path, bytes([entry.mode == EXECUTABLE]), number(entry.size))
        self._add(entry.sha256.encode(), number(plan.kept))
        data = _contents(plan.path)
        for piece in plan.pieces:
            if piece.source is not None:
                source = self._source(piece.source)
                self._add(b"C", number(source), number(piece.at), number(piece.size))
                continue
            self._add(b"B", number(piece.size))
            for begin in range(piece.offset, piece.offset + piece.size, FRAME):
                end = min(begin + FRAME, piece.offset + piece.size)
                self._add(data[begin:end])
                progress(end - begin)
        self._add(b"E")

    def end(self) -> None:
        """The end of the stream."""
        self._add(b"Z")
        self._flush(len(self._held))

    def _source(self, path: str) -> int:
        if path not in self._sources:
            self._sources[path] = len(self._sources)
            self._add(b"S", number(len(path.encode())), path.encode())
        return self._sources[path]

    def _add(self, *pieces: bytes | memoryview) -> None:
        for piece in pieces:
            self._held += piece
        while len(self._held) >= FRAME:
            self._flush(FRAME)

    def _flush(self, size: int) -> None:
        data = bytes(self._held[:size])
        del self._held[:size]
        stored = self._compressor.compress(data)
        if len(stored) >= len(data):
            stored = data
        self.write(len(data).to_bytes(4, "little") + len(stored).to_bytes(4, "little") + stored)


def number(value: int) -> bytes:
    """A number as the agent reads it: seven bits in each byte, the lowest first."""
    out = bytearray()
    while value > 127:  # noqa: PLR2004 - seven bits
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _build(
    board: Receiver, plans: Sequence[Rebuild], announce: Callable[[int], None], progress: ChunkSent
) -> frozenset[str]:
    """Send the orders; returns the paths of files that came out wrong, and do not exist."""
    announce(sum(plan.sent for plan in plans))
    with board.session.stream(board.receive) as process:
        try:
            frames = Frames(process.stdin.write)
            for plan in plans:
                frames.file(plan, progress)
            frames.end()
            process.stdin.close()
        except BrokenPipeError:
            pass  # the agent ended, and says why; or the connection was lost, which waiting for it tells
        code = process.wait(TIMEOUT_S)
        lines = list(iter(process.readline, b""))
        if code != 0:
            raise _failed(board, code, lines, process.stderr)
    results = [json.loads(line) for line in lines]
    return frozenset(result["path"] for result in results if result.get("why"))


def _failed(board: Receiver, code: int, lines: Sequence[bytes], stderr: bytes) -> DeployError:
    failure = failure_of(lines)
    why = failure.error if failure else last_lines(stderr) or f"the agent ended with exit code {code}"
    full = "No space left" in why or "quota exceeded" in why
    return DeployError(
        "the board cannot store the release",
        where=board.session.name,
        why=f"the disk is full: {why}" if full else why,
        next="free space on the board, or set another work_dir in devices.yaml"
        if full
        else "check work_dir in devices.yaml, and that the login user can write there",
    )


def _contents(path: Path) -> memoryview:
    """The bytes of a file, which are read when they are needed."""
    import numpy as np

    return np.memmap(path, np.uint8, "r").data if path.stat().st_size else memoryview(b"")
