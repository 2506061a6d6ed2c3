"""What a contestant is: the few words that the benchmark and every peer's own process share.

This module runs in every peer's environment, so it needs Python and numpy only. A contestant is one file in
``contestants/`` whose class follows ``Contestant``; its heavy imports stand inside its methods, because the
benchmark itself imports the file, too, to read ``requirements``.
"""

import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.kit.correctness import EXACT_S, Run, rows, save_outputs
from benchmarks.kit.serving import timed

CPUINFO = Path("/proc/cpuinfo")
Precision = Literal["fp32", "int8"]


class Unsupported(Exception):  # noqa: N818 - a result, not a fault
    """The contestant cannot do this cell, and its message says why, in one sentence."""

    kind = "unsupported"  # to benchmarks.kit.serving


@dataclass(frozen=True)
class Assignment:
    """One cell of the table, for one contestant."""

    net: str  # a key of edgepack.zoo.NETS
    onnx: Path  # the fp32 model, canonical ONNX with static shapes, batch 1
    weights: Path  # the torch module's state_dict, read with torch.load(weights_only=True)
    calibration: Path  # .npz: one array an input, by the input's name, with a leading axis of samples
    precision: Precision
    threads: int
    folder: Path  # the contestant's own, there and kept from run to run: what prepare makes goes here
    trials: int  # tuning trials for those who tune
    minutes: float  # the longest that prepare may take

    def calibration_samples(self) -> list[dict[str, np.ndarray]]:
        """The calibration data, one dict of inputs (batch of 1, as the model takes them) a sample."""
        return rows(self.calibration)

    def save_exact(self, run: Run) -> Path:
        """Write what ``run``, an exact way to compute the quantized model, makes of the calibration samples, as many as time allows."""
        return save_outputs(self.folder / "exact.npz", run, self.calibration_samples(), EXACT_S)

    @classmethod
    def from_json(cls, words: Mapping[str, Any]) -> "Assignment":
        """The inverse of ``asdict``, once that has been JSON, where paths are text."""
        paths = {key: Path(words[key]) for key in ("onnx", "weights", "calibration", "folder")}
        return cls(**{**words, **paths})


@dataclass(frozen=True)
class Prepared:
    """What ``prepare`` made."""

    model: tuple[Path, ...]  # the files of the model itself
    runtime: tuple[Path, ...]  # all other files that inference reads, but for Python and numpy
    notes: Mapping[str, Any] = field(default_factory=dict)  # versions, path of quantization, tuning trials
    # In int8: the quantized model as ONNX, or what it computes exactly for the calibration samples, as
    # ``Assignment.save_exact`` writes it. None: it can be had as neither, and is compared with fp32 alone.
    exact: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Cold:
    """One cold start, in a process of its own."""

    start_ns: int  # from the start of the process to the first output
    load_ns: int  # of that, loading the model
    ready_ns: int = 0  # of that, until Python and numpy were imported; 0 where no Python takes part
    peak_rss_kib: int


class LoadedModel:
    """A loaded model, ready to run.

    A session whose ``time`` warms up by itself each time says so with ``warms_up = True``; others are given some
    untimed inferences at the start of each block.
    """

    warms_up = False
    infer: Callable[[], object]  # one inference on the inputs of the last ``run``, which ``time`` calls

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """One inference; inputs by name, outputs in the order of the ONNX model's."""
        raise NotImplementedError

    def time(self, runs: int) -> list[int]:
        """Nanoseconds of ``runs`` inferences, one after the other, on the inputs of the last ``run``.

        Through the thinnest call that the runtime's Python binding has: inputs and outputs stay where they are.
        """
        return timed(self.infer, runs)


class Contestant:
    """One way to run a net on this machine."""

    title: str  # as the table prints it
    requirements: tuple[str, ...] = ()  # of its environment, pinned, for pip; none: edgepack's own
    precisions: tuple[Precision, ...] = ("fp32", "int8")
    # Another mode of a contestant: where it has no path, it is left out instead of listed as not supported.
    alternative = False
    # What ``prepare`` makes serves every number of threads, so that it is made once and ``task.folder`` is the
    # same for all of them. Otherwise each number of threads has a folder of its own.
    threads_share = True

    @property
    def home(self) -> str:
        """The name of its environment: that of its file, so that the contestants of one file share it."""
        return type(self).__module__.rpartition(".")[2]

    def prepare(self, task: Assignment) -> Prepared:
        """Convert, quantize, tune and compile; in a process of its own, in the contestant's environment.

        What is in ``task.folder`` from an earlier run may be used again.

        Raises:
            Unsupported: It cannot. Any other exception is reported as a failure, with its words.
        """
        raise NotImplementedError

    def load(self, task: Assignment, prepared: Prepared) -> LoadedModel:
        """Load what ``prepare`` made, in a fresh process with ``task.threads`` threads to use."""
        raise NotImplementedError

    def cold(self, task: Assignment, prepared: Prepared, inputs: Mapping[str, np.ndarray]) -> Cold | None:  # noqa: ARG002
        """A cold start, by a contestant whose inference runs in a process other than Python's.

        None: the worker measures its own start, load and first inference.
        """
        return None


def distribution_files(*names: str) -> tuple[Path, ...]:
    """The installed files of pip distributions in this environment: what importing them can read."""
    from importlib.metadata import files

    found = (Path(str(file.locate())) for name in names for file in files(name) or ())
    return tuple(path for path in found if path.is_file() and path.suffix != ".pyc")


def require_saturation() -> None:
    """For a precise mode that is of use only where ``vpmaddubsw`` adds pairs of u8 · s8 in saturating int16.

    Raises:
        Unsupported: This CPU is no x86, or has VNNI, which does not saturate.
    """
    if platform.machine() != "x86_64" or "vnni" in CPUINFO.read_text():
        raise Unsupported("needless here: this CPU multiplies int8 without saturation by default")


def size(paths: Iterable[Path]) -> int:
    """Bytes of the files, each counted once."""
    return sum(path.stat().st_size for path in {path.resolve() for path in paths})
