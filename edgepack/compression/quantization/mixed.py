"""Mixed precision: the layers that lose most are kept in a higher precision, until the loss is within a limit.

Layers are ordered by the noise that each of them alone adds to the outputs, and raised one after the other (as in Nagel
et al. 2021, arXiv:2106.08295, section 3.5, and HAWQ's order by sensitivity, Dong et al. 2019, arXiv:1905.03696).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.base.progress import Progress
from edgepack.compression.quantization.judging import Judge
from edgepack.compression.quantization.layers import WeightConstant

Precisions = Mapping[str, str]
"""By weight: the precision of its layer, if it is not int8."""


@dataclass(frozen=True)
class PrecisionChoice:
    """The precision of each layer that is not int8, and what it took.

    Attributes:
        precisions: by weight.
        metrics: for the report.
    """

    precisions: Precisions
    metrics: dict[str, Any]


def choose(
    layers: Sequence[WeightConstant],
    write: Callable[[Precisions], Path],
    judge: Judge,
    *,
    drop: float,
    higher: Sequence[str],
    progress: Progress,
) -> PrecisionChoice:
    """Raise layers until the loss is at most ``drop``, or all are at the highest precision.

    The most sensitive layer is raised to the next of ``higher``; if that lowers neither the loss nor the noise, it goes
    on to the one after that at once.

    Metrics: ``measure``; ``loss``: ``[all in int8, chosen]``; ``noise_db``: weight to the level of the noise at the outputs
    if its layer alone is quantized; ``precisions``: weight to the precision of its layer, if it is not int8; ``within``:
    whether the loss is within the limit.
    """
    names = [layer.name for layer in layers]
    first = loss = judge.loss(write({}))
    noise: dict[str, float] = {}
    chosen: dict[str, str] = {}
    if loss > drop:
        noise = noise_of_each(names, write, judge, progress)
    for name in sorted(noise, key=lambda name: (-noise[name], name)):
        for precision in higher:
            if loss <= drop:
                break
            chosen[name] = precision
            progress(f"{len(chosen)} of {len(names)} layers in a higher precision", None)
            loss = judge.loss(write(chosen))
    metrics = {
        "measure": judge.measure,
        "loss": [first, loss],
        "noise_db": {name: _level(value) for name, value in noise.items()},
        "precisions": chosen,
        "within": loss <= drop,
    }
    return PrecisionChoice(chosen, metrics)


def noise_of_each(
    names: Sequence[str], write: Callable[[Precisions], Path], judge: Judge, progress: Progress
) -> dict[str, float]:
    """Return by weight the share of noise in the outputs if its layer alone is quantized."""
    noise = {}
    for number, name in enumerate(names):
        progress(f"sensitivity of layer {number + 1}/{len(names)}", number / len(names))
        noise[name] = judge.noise(write({other: "fp32" for other in names if other != name}))
    return noise


def _level(noise: float) -> float | None:
    import math

    return round(10 * math.log10(noise), 2) if noise > 0 else None
