"""Samples as arrays, and comparison of outputs with the reference. Runs in any environment: only numpy."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

# Other summation orders, FMA and Winograd's transforms stay well below; bfloat16 and fp16 do not.
FP32_ERROR = 1e-3
# Below it, the output points in another direction: a wrong scale, layout or operator. Random weights quantize worse
# than trained ones, so the bound says nothing about accuracy; the figures are printed for each cell.
INT8_COSINE = 0.9
EXACT_S = 60.0  # time limit of inferences for the comparison with exact outputs, and for computing those


@dataclass(frozen=True)
class Distance:
    """The worst values over all outputs and samples."""

    relative: float | None  # max |y - ref| / max |ref|; None: not finite
    cosine: float | None  # of the angle between the outputs as vectors; None: not finite
    sqnr_db: float | None  # signal-to-quantization-noise ratio; None: no noise at all, or not finite
    problem: str | None = None  # why the outputs cannot be compared

    def wrong(self, precision: str) -> str | None:
        """Return why the outputs are wrong, or None."""
        if self.problem is not None:
            return self.problem
        if precision == "fp32":
            if self.relative is None or not self.relative <= FP32_ERROR:
                shown = "not finite" if self.relative is None else f"{self.relative:.2e}"
                return f"relative error {shown}, above {FP32_ERROR:.0e}"
        elif self.cosine is None or not self.cosine >= INT8_COSINE:
            shown = "not finite" if self.cosine is None else f"{self.cosine:.4f}"
            return f"cosine {shown}, below {INT8_COSINE}"
        return None


@dataclass(frozen=True)
class Exactness:
    """Comparison of a contestant's int8 outputs with the exact ones of its quantized model, over all samples."""

    samples: int
    top1: int  # samples whose first output has the same top-1
    difference: float | None  # max |y - exact| / max |exact|, the worst output and sample; None: not finite
    quantization: (
        float | None
    )  # max |exact - ref| / max |ref| with the fp32 reference: the error of quantization itself

    @property
    def exact(self) -> bool:
        """Whether it adds no larger error than quantization does: different rounding, but no saturation.

        Rounding differs by one step of one value, but later layers amplify it, especially with random weights, so
        there is no bound that holds for all nets.
        """
        return None not in (self.difference, self.quantization) and self.difference <= self.quantization


T = TypeVar("T")
Run = Callable[[Mapping[str, np.ndarray]], Sequence[np.ndarray]]


def rows(path: Path) -> list[dict[str, np.ndarray]]:
    """Read the samples of an .npz file whose arrays have a leading axis of samples, one dict per sample."""
    with np.load(path, allow_pickle=False) as arrays:
        data = {name: arrays[name] for name in arrays.files}
    count = len(next(iter(data.values())))
    return [{name: array[i] for name, array in data.items()} for i in range(count)]


def save_outputs(
    path: Path, run: Run, samples: Iterable[Mapping[str, np.ndarray]], limit_s: float = math.inf
) -> Path:
    """Write the outputs of ``run`` for each sample as an .npz file: ``output_0`` etc., ``[samples, *shape]``.

    Samples after ``limit_s`` seconds are omitted.
    """
    columns = zip(*(run(sample) for sample in _while_time(samples, limit_s)), strict=True)
    np.savez(path, **{f"output_{i}": np.stack(column) for i, column in enumerate(columns)})
    return path


def outputs(path: Path) -> list[list[np.ndarray]]:
    """Read the outputs of each sample, as written by ``save_outputs``."""
    return [[row[f"output_{i}"] for i in range(len(row))] for row in rows(path)]


def compare_exact(run: Run, samples: Path, exact: Path, fp32: Path) -> Exactness:
    """Infer the samples that have an exact output, as many as ``EXACT_S`` permits."""
    count = agree = 0
    ours = quantized = Distance(0.0, 1.0, None)
    known = zip(rows(samples), outputs(exact), outputs(fp32), strict=False)
    for sample, want, plain in _while_time(known, EXACT_S):
        got = run(sample)
        count += 1
        agree += int(np.argmax(got[0]) == np.argmax(want[0]))
        ours, quantized = worse(ours, distance(got, want)), worse(quantized, distance(want, plain))
    return Exactness(count, agree, ours.relative, quantized.relative)


def _while_time(items: Iterable[T], limit_s: float) -> Iterator[T]:
    """Yield items until ``limit_s`` seconds have passed, at least one."""
    end = time.monotonic() + limit_s
    for item in items:
        yield item
        if time.monotonic() > end:
            return


def distance(outputs: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> Distance:
    """Compare one sample's outputs, in the model's order.

    Shapes may differ only by dimensions of 1, which some runtimes drop.
    """
    if len(outputs) != len(reference):
        return Distance(None, None, None, f"{len(outputs)} outputs instead of {len(reference)}")
    worst = Distance(0.0, 1.0, None)
    for index, (got, want) in enumerate(zip(outputs, reference, strict=True)):
        if _squeeze(got) != _squeeze(want):
            problem = f"output {index} is {list(got.shape)} instead of {list(want.shape)}"
            return Distance(None, None, None, problem)
        worst = worse(worst, _of(np.asarray(got, np.float64).ravel(), np.asarray(want, np.float64).ravel()))
    return worst


def worse(a: Distance, b: Distance) -> Distance:
    """Return the worse of two distances in each figure."""
    finite = a.relative is not None and b.relative is not None
    noises = [x.sqnr_db for x in (a, b) if x.sqnr_db is not None]
    return Distance(
        max(a.relative, b.relative) if finite else None,
        min(a.cosine, b.cosine) if a.cosine is not None and b.cosine is not None else None,
        min(noises, default=None) if finite else None,
        a.problem or b.problem,
    )


def _of(got: np.ndarray, want: np.ndarray) -> Distance:
    if not np.isfinite(got).all():
        return Distance(None, None, None)
    noise = got - want
    scale, most = float(np.abs(want).max(initial=0.0)), float(np.abs(noise).max(initial=0.0))
    if scale == 0.0:
        same = most == 0.0
        return Distance(0.0 if same else None, 1.0 if same else 0.0, None)
    length = math.sqrt(float(got @ got) * float(want @ want))
    power = float(noise @ noise)
    return Distance(
        most / scale,
        min(1.0, float(got @ want) / length) if length else 0.0,
        10 * math.log10(float(want @ want) / power) if power else None,
    )


def _squeeze(array: np.ndarray) -> tuple[int, ...]:
    return tuple(size for size in array.shape if size != 1)
