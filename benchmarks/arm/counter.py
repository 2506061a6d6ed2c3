"""Exact counts of an aarch64 program's executed instructions, with ``counter.c`` in qemu-aarch64.

The guest's user-mode instructions are counted individually by their address; kernel code is
not emulated and not counted. Counts are exact and reproducible; they are **not times**: they do not include caches,
pipelines or clocks.
"""

import struct
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.arm import tools
from benchmarks.kit.native import shared_library
from edgepack.errors import EdgepackError

_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
_SOURCE = Path(__file__).with_name("counter.c")

# Arm Architecture Reference Manual (DDI 0487), C4.1: mask and value of the encodings; the first match wins.
_KINDS = (
    ("fp32 multiply-add", 0xBFA0FC00, 0x0E20CC00),  # FMLA, FMLS vector (bit 23: FMLS)
    ("fp32 multiply-add", 0xBF80B400, 0x0F801000),  # by element, both
    ("fp32 multiply-add", 0xFF000000, 0x1F000000),  # FMADD and its kin, scalar
    ("int8 dot product", 0x9FE0FC00, 0x0E809400),  # SDOT, UDOT vector
    ("int8 dot product", 0x9FC0F400, 0x0F80E000),  # by element
    ("int multiply-add", 0x9F20DC00, 0x0E208000),  # SMLAL, UMLAL, SMLSL, UMLSL vector
    ("int multiply-add", 0x9F00B400, 0x0F002000),  # by element
    ("other vector and fp", 0x0E000000, 0x0E000000),
    ("load and store", 0x0A000000, 0x08000000),
    ("branch", 0x1C000000, 0x14000000),
)
OTHER = "integer"
KINDS = (*dict.fromkeys(kind for kind, _, _ in _KINDS), OTHER)

# The file that contains an instruction, and its offset from the address of the file's first byte.
Place = tuple[str, int]


def kind(word: int) -> str:
    """Return the kind of an A64 encoding, one of ``KINDS``."""
    return next((name for name, mask, value in _KINDS if word & mask == value), OTHER)


@dataclass(frozen=True)
class Profile:
    """Execution counts per instruction. Subtracting another profile gives what ran in between."""

    runs: Counter[Place]
    words: Mapping[Place, int]  # the encodings

    @property
    def total(self) -> int:
        """Number of executed instructions."""
        return self.runs.total()

    def __add__(self, other: "Profile") -> "Profile":
        return Profile(self.runs + other.runs, {**self.words, **other.words})

    def __sub__(self, other: "Profile") -> "Profile":
        left = {place: runs - other.runs[place] for place, runs in self.runs.items()}
        return Profile(Counter({place: runs for place, runs in left.items() if runs}), self.words)

    def by_kind(self) -> dict[str, int]:
        """Number of executed instructions of each kind."""
        sums = dict.fromkeys(KINDS, 0)
        for place, runs in self.runs.items():
            sums[kind(self.words[place])] += runs
        return sums

    def by_file(self) -> dict[str, int]:
        """Number of executed instructions by file name, in descending order."""
        sums: Counter[str] = Counter()
        for (file, _), runs in self.runs.items():
            sums[Path(file).name] += runs
        return dict(sums.most_common())


def plugin() -> Path:
    return shared_library("counter", _SOURCE.read_text(), _FLAGS)


def count(argv: Sequence[str], *, cpu: str, root: Path, environment: Mapping[str, str]) -> Profile:
    """Run an aarch64 program and count its instructions.

    Args:
        argv: The program and its arguments; paths on this machine.
        cpu: qemu's CPU model: unsupported instructions end the program, and feature detection reports this core.
        root: The folder with the program's libraries and ``/proc/cpuinfo``, used before those of this machine.
        environment: The program's whole environment.

    If a program marks a part of itself by calls to getsid, the part between the last two of them is counted.
    Forked processes are counted too, including what ran before the fork; this cancels out in differences.

    Raises:
        EdgepackError: qemu or the program failed, or it ran more than one thread.
    """
    words = [word for name, value in environment.items() for word in ("-E", f"{name}={value}")]
    with tempfile.TemporaryDirectory(prefix="edgepack-count-") as folder:
        emulator = [tools.qemu(), "-cpu", cpu, "-L", str(root), *words, "-plugin", f"{plugin()},out={folder}"]
        tools.output([*emulator, *argv])
        processes = sorted(Path(folder).glob("*.maps"))
        if not processes:
            raise EdgepackError("qemu's plugin wrote no counts", where=argv[0], why="the disk may be full")
        counted = Profile(Counter(), {})
        for maps in processes:
            data = maps.with_suffix(".counts").read_bytes()
            (threads,) = struct.unpack_from("<Q", data)
            if threads != 1:
                raise EdgepackError(
                    f"the program ran {threads} threads, but counts are exact only for one",
                    where=argv[0],
                    next="configure its libraries to use one thread",
                )
            counted += profile(data[8:], maps.read_text())
        return counted


def records(data: bytes) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Yield address, count and instructions of each block in the plugin's file, after its first number."""
    at = 0
    while at < len(data):
        address, runs, length = struct.unpack_from("<3Q", data, at)
        yield address, runs, struct.unpack_from(f"<{length}I", data, at + 24)
        at += 24 + 4 * length


def places(maps: str) -> list[tuple[int, int, int, str]]:
    """Return start, end, address of the file's first byte, and path of each file mapping in /proc/PID/maps."""
    mappings = []
    first: dict[str, int] = {}
    for line in dict.fromkeys(maps.splitlines()):
        span, _, offset, _, _, file = line.split(maxsplit=5)
        start, end = (int(word, 16) for word in span.split("-"))
        if int(offset, 16) == 0:
            first[file] = start
        mappings.append((start, end, first.get(file, start), file))
    return mappings


def profile(data: bytes, maps: str) -> Profile:
    """Parse the plugin's output for one process."""
    mappings = places(maps)
    runs: Counter[Place] = Counter()
    words: dict[Place, int] = {}
    for address, times, encoded in records(data):
        inside = ((base, file) for start, end, base, file in mappings if start <= address < end)
        base, file = next(inside, (0, "(no file)"))
        for index, word in enumerate(encoded):
            place = (file, address + 4 * index - base)
            runs[place] += times
            words[place] = word
    return Profile(runs, words)
