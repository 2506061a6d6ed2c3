"""Samples as arrays, and how far outputs are from onnxruntime's in fp32. Runs in any environment: numpy alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Summation in another order, FMA and Winograd's transforms stay well below; bfloat16 and fp16 do not.
FP32_ERROR = 1e-3
# Below it, the output points elsewhere: a wrong scale, layout or operator. Random weights quantize worse than
# trained ones, so the bound says nothing about accuracy; the figures are printed for each cell.
INT8_COSINE = 0.9


@dataclass(frozen=True)
class Distance:
    """The worst over all outputs and samples."""

    relative: float | None  # max |y - ref| / max |ref|; None: not finite
    cosine: float | None  # of the angle between the outputs as vectors; None: not finite
    sqnr_db: float | None  # signal to quantization noise; None: no noise at all, or not finite
    problem: str | None = None  # why the outputs cannot be compared

    def wrong(self, precision: str) -> str | None:
        """Why the outputs do not pass, or None."""
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


def rows(path: Path) -> list[dict[str, np.ndarray]]:
    """The samples of an .npz file whose arrays have a leading axis of samples, one dict each."""
    with np.load(path, allow_pickle=False) as arrays:
        data = {name: arrays[name] for name in arrays.files}
    count = len(next(iter(data.values())))
    return [{name: array[i] for name, array in data.items()} for i in range(count)]


def distance(outputs: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> Distance:
    """Of one sample's outputs, in the order of the model's.

    Shapes may differ in dimensions of 1 only, which some runtimes drop.
    """
    if len(outputs) != len(reference):
        return Distance(None, None, None, f"{len(outputs)} outputs instead of {len(reference)}")
    worst = Distance(0.0, 1.0, None)
    for index, (got, want) in enumerate(zip(outputs, reference, strict=True)):
        if _squeezed(got) != _squeezed(want):
            problem = f"output {index} is {list(got.shape)} instead of {list(want.shape)}"
            return Distance(None, None, None, problem)
        worst = worse(worst, _of(np.asarray(got, np.float64).ravel(), np.asarray(want, np.float64).ravel()))
    return worst


def worse(a: Distance, b: Distance) -> Distance:
    """The worse of two in each figure."""
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


def _squeezed(array: np.ndarray) -> tuple[int, ...]:
    return tuple(size for size in array.shape if size != 1)
