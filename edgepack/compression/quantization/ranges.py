"""Ranges of activations from calibration samples, by onnxruntime's calibrators.

``minmax`` contains all values; ``percentile`` leaves out the rarest; ``entropy`` minimises the divergence between the
distributions before and after (Migacz 2017; compared in Wu et al. 2020, arXiv:2004.09602); ``mse`` minimises the squared
error, searched over the histogram (Nagel et al. 2021, arXiv:2106.08295, section 3.1).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgepack.base.progress import Progress
from edgepack.compression.quantization.feeds import Feed

if TYPE_CHECKING:
    import numpy as np

Calibration = Literal["minmax", "entropy", "percentile", "mse"]
Ranges = Mapping[str, tuple[float, float]]
_AT_ONCE = 8  # batches whose inner tensors onnxruntime holds, before it adds them to the histograms
_SHARES = 24  # of the range that the search tries, for each end
_NARROWEST = 0.2
_BINS = 2048


def activation_ranges(
    path: Path,
    feeds: Sequence[Feed],
    calibration: Calibration,
    *,
    percentile: float,
    symmetric: bool,
    operators: Sequence[str],
    folder: Path,
    progress: Progress,
) -> Ranges:
    """Return the smallest and the largest value of each activation that the operators read or write.

    Args:
        path: the model, with shapes inferred.
        feeds: calibration samples, in batches of the model's size.
        calibration: how a range is determined.
        percentile: of the values within a range, from 0 to 100, for the calibration of that name.
        symmetric: whether zero will be the middle of the range.
        operators: types of operators that will be quantized.
        folder: for temporary files.
        progress: called with the share done.
    """
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
        "mse": CalibrationMethod.Percentile,
    }
    options: dict[str, Any] = {}
    if calibration in {"percentile", "mse"}:
        options = {"num_bins": _BINS, "percentile": percentile, "symmetric": False}
    calibrator = create_calibrator(
        path,
        list(operators),
        augmented_model_path=str(folder / "augmented.onnx"),
        calibrate_method=methods[calibration],
        extra_options=options,
    )
    for start in range(0, len(feeds), _AT_ONCE):
        progress(f"calibrating on {len(feeds)} batches", start / len(feeds))
        calibrator.collect_data(_reader(feeds[start : start + _AT_ONCE]))
    if calibration == "mse":
        histograms = calibrator.collector.get_histogram_dict()
        return {name: _least_error(*values[:4], symmetric=symmetric) for name, values in histograms.items()}
    found = calibrator.compute_data()
    ends = {name: found[name].range_value for name in found}
    return {name: (float(low.item()), float(high.item())) for name, (low, high) in ends.items()}


def _reader(feeds: Sequence[Feed]) -> Any:
    """Wrap the feeds in onnxruntime's calibration interface."""
    from onnxruntime.quantization import CalibrationDataReader

    class CalibrationBatches(CalibrationDataReader):  # type: ignore[misc] # onnxruntime is untyped
        def __init__(self) -> None:
            self._feeds = iter(feeds)

        def get_next(self) -> Feed | None:
            return next(self._feeds, None)

    return CalibrationBatches()


def _least_error(
    counts: "np.ndarray",
    edges: "np.ndarray",
    smallest: "np.ndarray",
    largest: "np.ndarray",
    *,
    symmetric: bool,
) -> tuple[float, float]:
    """Return the range with the least squared error if it is divided into 255 steps and values outside are clipped."""
    import numpy as np

    low, high = min(float(smallest), 0.0), max(float(largest), 0.0)
    used = counts > 0
    centres, weights = (
        ((edges[:-1] + edges[1:]) / 2)[used].astype(np.float64),
        counts[used].astype(np.float64),
    )
    shares = [float(share) for share in np.linspace(1, _NARROWEST, _SHARES)]
    if symmetric:
        end = max(-low, high)
        tried = [(-end * share, end * share) for share in shares]
    else:
        lows, highs = (shares if end else shares[:1] for end in (low, high))
        tried = [(low * first, high * second) for first in lows for second in highs]
    return min(tried, key=lambda ends: _squared_error(centres, weights, *ends))


def _squared_error(centres: "np.ndarray", weights: "np.ndarray", low: float, high: float) -> float:
    import numpy as np

    step = (high - low) / 255 or 1.0
    start = np.rint(low / step)
    rounded = np.clip(np.rint(centres / step), start, start + 255) * step
    return float((weights * np.square(rounded - centres)).sum())
