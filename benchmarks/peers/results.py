"""Results of a group as a JSON file: net, precision and threads, measured together in one run.

There is a folder per kind of CPU (``benchmarks.kit.machine.kind``), so that a run on one kind does not affect the
results of others. A group's file is replaced as a whole when the group is measured again, because ratios compare blocks
of the same rounds. Files of other groups are kept, so that a table can be completed in several runs.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from benchmarks.kit.correctness import Exactness
from benchmarks.kit.interleaving import TimedBlock
from benchmarks.peers.protocol import Cold, Precision
from edgepack.spec import Finite, Spec
from edgepack.spec.document import JsonDocument

_NUMBERS = re.compile(r"\[\s+([-\d.e+]+(?:,\s+[-\d.e+]+)*)\s+\]")


@dataclass(frozen=True)
class Cell:
    """Identifies a group."""

    net: str
    precision: str
    threads: int

    @property
    def key(self) -> str:
        """Key of the group, and name of its file."""
        return f"{self.net}-{self.precision}-{self.threads}t"


class ContestantResult(Spec):
    """The result of one contestant in the group."""

    title: str
    status: Literal["measured", "wrong", "failed", "unsupported"]
    phase: str | None = None  # in which it failed: environment, prepare, load, run, warm-up, time, cold
    reason: str | None = None
    relative_error: Finite | None = None  # max |y - ref| / max |ref|, the worst output and sample
    cosine: Finite | None = None
    sqnr_db: Finite | None = None
    exactness: Exactness | None = None  # in int8, if the exact outputs of its model are known
    model_bytes: int | None = None
    runtime_bytes: int | None = None  # all other files needed for inference, except Python and numpy
    load_ns: int | None = None  # in the timed process
    call_ns: Finite | None = None  # of an empty Python function, in the same process
    warm_inferences: int | None = None
    warm_stable: bool | None = None
    cold: tuple[Cold, ...] = ()
    cold_reason: str | None = None  # why there is no cold start
    prepare_seconds: Finite | None = None
    prepared_before: bool = False  # in an earlier run
    notes: dict[str, Any] = Field(default_factory=dict)  # versions, path of quantization, trials
    packages: dict[str, str] = Field(default_factory=dict)  # in its environment


class Roofline(Spec):
    """The minimum time of an inference on this machine."""

    macs: int
    bytes: int  # of weights, inputs and outputs at the precision
    peak_gops: Finite  # arithmetic, two operations per multiply-add
    bandwidth_gbs: Finite
    cache_bytes: int  # of the last level
    ns: Finite
    bound: Literal["compute", "memory"]


class Group(JsonDocument):
    """One group of the table."""

    hint: ClassVar[str] = "re-run the group"

    kind: Literal["peers-group"] = "peers-group"
    edgepack: Literal[2] = 2
    net: str
    title: str
    precision: Precision
    threads: int
    when: str  # UTC, ISO 8601
    seconds: Finite  # of the whole group
    command: str
    commit: str | None  # of the checkout
    seed: int
    machine: dict[str, Any]
    plan: dict[str, Any]
    limits: dict[str, Any] | None
    roofline: Roofline | None
    canary_references_ns: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]
    entries: dict[str, ContestantResult]
    blocks: tuple[TimedBlock, ...]

    @property
    def cell(self) -> Cell:
        """Key of the group."""
        return Cell(self.net, self.precision, self.threads)

    def kept(self, contestant: str) -> dict[int, list[int]]:
        """Return the valid samples, by round."""
        rounds: dict[int, list[int]] = {}
        for block in self.blocks:
            if block.contestant == contestant and block.discarded is None:
                rounds.setdefault(block.round, []).extend(block.samples_ns)
        return rounds

    def to_bytes(self) -> bytes:
        """As ``Document``, but with every list of numbers on one line."""
        text = json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
        joined = _NUMBERS.sub(lambda match: "[" + re.sub(r"\s+", " ", match[1]) + "]", text)
        return joined.encode() + b"\n"

    def save_in(self, folder: Path) -> Path:
        """Write it to the folder of its kind of CPU, atomically."""
        return self.save(folder / self.machine["kind"] / f"{self.cell.key}.json")


def kinds(folder: Path) -> list[str]:
    """Return the kinds of CPU with results in ``folder``."""
    return sorted({path.parent.name for path in folder.glob("*/*.json")})


def load_groups(folder: Path) -> list[Group]:
    """Load all groups in ``folder``, which belongs to one kind of CPU, by file name.

    Raises:
        InputError: A file is not a group, or has another schema version.
    """
    return [Group.load(path) for path in sorted(folder.glob("*.json"))]
