"""What a contestant is: the few words that the benchmark and every peer's own process share.

This module runs in every peer's environment, so it needs Python and numpy only. A contestant is one file in
``contestants/`` whose class follows ``Contestant``; its heavy imports stand inside its methods, because the
benchmark itself imports the file, too, to read ``requirements``.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

Precision = Literal["fp32", "int8"]


class Unsupported(Exception):  # noqa: N818 - a result, not a fault
    """The contestant cannot do this cell, and its message says why, in one sentence."""


@dataclass(frozen=True)
class Task:
    """One cell of the table, for one contestant."""

    net: str  # a key of edgepack.zoo.NETS
    onnx: Path  # the fp32 model, canonical ONNX with static shapes, batch 1
    weights: Path  # the torch module's state_dict, read with torch.load(weights_only=True)
    calibration: Path  # .npz: one array an input, by the input's name, with a leading axis of samples
    precision: Precision
    threads: int
    folder: Path  # the contestant's own, kept from run to run: what prepare makes goes here
    trials: int  # tuning trials for those who tune
    minutes: float  # the longest that prepare may take

    def calibration_samples(self) -> list[dict[str, np.ndarray]]:
        """The calibration data, one dict of inputs (batch of 1, as the model takes them) a sample."""
        return rows(self.calibration)

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "Task":
        """The inverse of ``to_json``."""
        words = json.loads(text)
        paths = {key: Path(words[key]) for key in ("onnx", "weights", "calibration", "folder")}
        return cls(**{**words, **paths})


@dataclass(frozen=True)
class Prepared:
    """What ``prepare`` made."""

    model: tuple[Path, ...]  # the files of the model itself
    runtime: tuple[Path, ...]  # all other files that inference reads, but for Python and numpy
    notes: Mapping[str, Any] = field(default_factory=dict)  # versions, path of quantization, tuning trials


@dataclass(frozen=True)
class Cold:
    """One cold start, in a process of its own."""

    start_ns: int  # from the start of the process to the first output
    load_ns: int  # of that, loading the model
    peak_rss_kib: int


class Session(Protocol):
    """A loaded model, ready to run.

    A session whose ``time`` warms up by itself each time says so with ``warms_up = True``; others are given some
    untimed inferences at the start of each block.
    """

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """One inference; inputs by name, outputs in the order of the ONNX model's."""

    def time(self, runs: int) -> list[int]:
        """Nanoseconds of ``runs`` inferences, one after the other, on the inputs of the last ``run``.

        Through the thinnest call that the runtime's Python binding has: inputs and outputs stay where they are.
        """


class Contestant(Protocol):
    """One way to run a net on this machine.

    Two things a contestant may have besides, and the benchmark asks for by ``getattr``:

    - ``threads_share = True``: what ``prepare`` makes serves every number of threads, so that it is made once
      and ``task.folder`` is the same for all of them. Otherwise each number of threads has a folder of its own.
    - ``cold(task, prepared, inputs) -> Cold``: a cold start, for a contestant whose inference runs in a process
      other than Python's. Otherwise the worker measures its own start, load and first inference.
    """

    title: str  # as the table prints it
    requirements: tuple[str, ...]  # of its environment, pinned, for pip; none: edgepack's own
    precisions: tuple[Precision, ...]

    def prepare(self, task: Task) -> Prepared:
        """Convert, quantize, tune and compile; in a process of its own, in the contestant's environment.

        What is in ``task.folder`` from an earlier run may be used again.

        Raises:
            Unsupported: It cannot. Any other exception is reported as a failure, with its words.
        """

    def load(self, task: Task, prepared: Prepared) -> Session:
        """Load what ``prepare`` made, in a fresh process with ``task.threads`` threads to use."""


def rows(path: Path) -> list[dict[str, np.ndarray]]:
    """The samples of an .npz file whose arrays have a leading axis of samples, one dict each."""
    with np.load(path, allow_pickle=False) as arrays:
        data = {name: arrays[name] for name in arrays.files}
    count = len(next(iter(data.values())))
    return [{name: array[i] for name, array in data.items()} for i in range(count)]


def timed(infer: Callable[[], object], runs: int) -> list[int]:
    """Nanoseconds of each of ``runs`` calls."""
    clock = time.perf_counter_ns
    samples = []
    for _ in range(runs):
        start = clock()
        infer()
        samples.append(clock() - start)
    return samples


def distribution_files(*names: str) -> tuple[Path, ...]:
    """The installed files of pip distributions in this environment: what importing them can read."""
    from importlib.metadata import files

    found = (Path(str(file.locate())) for name in names for file in files(name) or ())
    return tuple(path for path in found if path.is_file() and path.suffix != ".pyc")


def size(paths: Iterable[Path]) -> int:
    """Bytes of the files, each counted once."""
    return sum(path.stat().st_size for path in {path.resolve() for path in paths})
