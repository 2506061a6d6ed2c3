"""Inputs made from the statistics of batch normalisation, for calibration without samples.

Each batch normalisation knows mean and variance of its inputs over the training data. Starting from noise, inputs are
optimised until those of the source model on them are the same (Cai et al. 2020, ZeroQ, arXiv:2001.00281).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base.progress import Progress
from edgepack.compression.method import Context
from edgepack.compression.quantization.feeds import Feeds
from edgepack.errors import InputError

if TYPE_CHECKING:
    import onnx
    import torch

_STEPS = 200
_RATE = 0.1
_AT_ONCE = 32  # samples that are optimised together: enough for the statistics of a layer
_NEXT = "give samples: a data block, or `samples: inputs.npz`; then remove data_free"


def made_feeds(graph: "onnx.GraphProto", context: Context, model: Path, *, samples: int, seed: int) -> Feeds:
    """Return ``samples`` inputs whose statistics in the source model are those of its batch normalisations.

    The model must have one input of floating-point numbers.

    Raises:
        InputError: it has not; or the source is not a torch model, or has no batch normalisation with statistics.
    """
    if context.teacher is None:
        raise InputError(
            "calibration without samples needs a torch model: model.source", where=str(model), next=_NEXT
        )
    if len(context.inputs) != 1 or not context.inputs[0].dtype.startswith("float"):
        raise InputError(
            "calibration without samples needs a model with one input of floating-point numbers",
            where=str(model),
            why=f"it has {', '.join(f'{each.name}: {each.dtype}' for each in context.inputs)}",
            next=_NEXT,
        )
    (given,) = context.inputs
    batch = given.shape[0] if given.shape else 1
    source = context.teacher()
    rows = []
    count = -(-samples // batch) * batch
    for start in range(0, count, _AT_ONCE):
        size = min(_AT_ONCE, count - start)
        rows.append(_made(source, (size, *given.shape[1:]), seed + start, context.progress))
    import numpy as np

    (name,) = [value.name for value in graph.input]
    array = np.concatenate(rows).astype(given.dtype)
    return Feeds([{name: array[start : start + batch]} for start in range(0, count, batch)], count)


def _made(source: "torch.nn.Module", shape: tuple[int, ...], seed: int, progress: Progress) -> Any:
    """Return one set of inputs, ``shape``, as a NumPy array."""
    import torch

    layers = [
        layer
        for layer in source.modules()
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None  # noqa: SLF001
    ]
    if not layers:
        raise InputError(
            f"{type(source).__name__} has no batch normalisation with statistics",
            why="they are what inputs are made from",
            next=_NEXT,
        )
    distances: list[torch.Tensor] = []

    def measure(layer: Any, inputs: Any) -> None:
        value = inputs[0]
        axes = [axis for axis in range(value.ndim) if axis != 1]
        variance = layer.running_var + layer.eps
        mean = (value.mean(axes) - layer.running_mean).square() / variance
        spread = (value.var(axes, unbiased=False) + layer.eps).sqrt() / variance.sqrt() - 1
        distances.append(mean.mean() + spread.square().mean())

    source.eval().requires_grad_(requires_grad=False)
    handles = [layer.register_forward_pre_hook(measure) for layer in layers]
    generator = torch.Generator().manual_seed(seed)
    made = torch.randn(shape, generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([made], lr=_RATE)
    try:
        with torch.enable_grad():
            for step in range(_STEPS):
                distances.clear()
                source(made)
                optimizer.zero_grad()
                torch.stack(distances).mean().backward()
                optimizer.step()
                progress("making inputs for calibration", step / _STEPS)
    finally:
        for handle in handles:
            handle.remove()
    return made.detach().numpy()
