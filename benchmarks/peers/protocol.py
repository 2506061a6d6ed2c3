"""The interface of contestants, shared by the benchmark and the contestants' processes.

This module runs in every contestant's environment, so it requires only Python and numpy. A contestant is a file in
``contestants/`` whose class implements ``Contestant``; it imports its dependencies inside its methods, because the
benchmark itself also imports the file, to read ``requirements``.
"""

import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.kit.correctness import EXACT_S, Run, rows, save_outputs
from benchmarks.kit.serving import time_calls

CPUINFO = Path("/proc/cpuinfo")
Precision = Literal["fp32", "int8"]


class Unsupported(Exception):  # noqa: N818 - a result, not a fault
    """The contestant does not support this cell; the message says why, in one sentence."""

    kind = "unsupported"  # for benchmarks.kit.serving


@dataclass(frozen=True)
class Assignment:
    """One cell of the table, for one contestant."""

    net: str  # a key of edgepack.zoo.NETS
    onnx: Path  # the fp32 model, canonical ONNX with static shapes, batch 1
    weights: Path  # the torch module's state_dict, read with torch.load(weights_only=True)
    calibration: Path  # .npz: one array per input, named by the input, with a leading axis of samples
    precision: Precision
    threads: int
    folder: Path  # the contestant's own, existing and kept between runs: the output folder of prepare
    trials: int  # tuning trials of contestants that tune
    minutes: float  # time limit for prepare

    def calibration_samples(self) -> list[dict[str, np.ndarray]]:
        """Return the calibration data, one dict of inputs (with batch 1) per sample."""
        return rows(self.calibration)

    def save_exact(self, run: Run) -> Path:
        """Write the outputs of ``run``, an exact implementation of the quantized model, for as many samples as time permits."""
        return save_outputs(self.folder / "exact.npz", run, self.calibration_samples(), EXACT_S)

    @classmethod
    def from_json(cls, words: Mapping[str, Any]) -> "Assignment":
        """Inverse of ``asdict`` after a conversion to JSON, in which paths are text."""
        paths = {key: Path(words[key]) for key in ("onnx", "weights", "calibration", "folder")}
        return cls(**{**words, **paths})


@dataclass(frozen=True)
class Prepared:
    """The result of ``prepare``."""

    model: tuple[Path, ...]  # the files of the model itself
    runtime: tuple[Path, ...]  # all other files needed for inference, except Python and numpy
    notes: Mapping[str, Any] = field(default_factory=dict)  # versions, path of quantization, tuning trials
    # In int8: the quantized model as ONNX, or its exact outputs for the calibration samples, as written by
    # ``Assignment.save_exact``. None: neither is available, and outputs are only compared with fp32.
    exact: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Cold:
    """One cold start, in a separate process."""

    start_ns: int  # from the start of the process to the first output
    load_ns: int  # part of it: loading the model
    ready_ns: int = 0  # part of it: until Python and numpy were imported; 0 without Python
    peak_rss_kib: int


class LoadedModel(ABC):
    """A loaded model, ready to run.

    A session whose ``time`` warms up by itself sets ``warms_up = True``; others are given some
    untimed inferences at the start of each block.
    """

    warms_up = False
    infer: Callable[[], object]  # one inference on the inputs of the last ``run``, which ``time`` calls

    @abstractmethod
    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run one inference; inputs by name, outputs in the ONNX model's order."""

    def time(self, runs: int) -> list[int]:
        """Return nanoseconds of ``runs`` consecutive inferences, on the inputs of the last ``run``.

        Uses the thinnest call of the runtime's Python binding, without copying inputs and outputs.
        """
        return time_calls(self.infer, runs)


class Contestant(ABC):
    """One way to run a net on this machine."""

    title: str  # as shown in tables
    requirements: tuple[str, ...] = ()  # of its environment, pinned, for pip; empty: edgepack's own
    precisions: tuple[Precision, ...] = ("fp32", "int8")
    # Another mode of a contestant: omitted if it has no path, instead of listed as not supported.
    alternative = False
    # The result of ``prepare`` is used for all thread counts, so that it is prepared once and ``task.folder`` is the
    # same for all of them. Otherwise each thread count has its own folder.
    threads_share = True

    @property
    def home(self) -> str:
        """Name of its environment: that of its file, so that the contestants of one file share it."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def prepare(self, task: Assignment) -> Prepared:
        """Convert, quantize, tune and compile; in a separate process, in the contestant's environment.

        Files in ``task.folder`` from an earlier run may be reused.

        Raises:
            Unsupported: It is not supported. Any other exception is reported as a failure, with its message.
        """

    @abstractmethod
    def load(self, task: Assignment, prepared: Prepared) -> LoadedModel:
        """Load the result of ``prepare``, in a new process that may use ``task.threads`` threads."""

    def cold(self, task: Assignment, prepared: Prepared, inputs: Mapping[str, np.ndarray]) -> Cold | None:  # noqa: ARG002
        """Measure a cold start, for contestants whose inference runs outside Python.

        None: the worker measures its own start, load and first inference.
        """
        return None


def distribution_files(*names: str) -> tuple[Path, ...]:
    """Return the installed files of pip distributions in this environment, which importing them may read."""
    from importlib.metadata import files

    paths = (Path(str(file.locate())) for name in names for file in files(name) or ())
    return tuple(path for path in paths if path.is_file() and path.suffix != ".pyc")


def require_saturation() -> None:
    """Check that a precise mode is useful: only if ``vpmaddubsw`` adds pairs of u8 · s8 in saturating int16.

    Raises:
        Unsupported: This CPU is not x86, or has VNNI, which does not saturate.
    """
    if platform.machine() != "x86_64" or "vnni" in CPUINFO.read_text():
        raise Unsupported("not needed: this CPU multiplies int8 without saturation by default")


def size(paths: Iterable[Path]) -> int:
    """Return the total size of the files in bytes, each counted once."""
    return sum(path.stat().st_size for path in {path.resolve() for path in paths})
