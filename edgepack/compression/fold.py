"""Merge linear operators that follow each other or are summed into one, where that is exact and saves work.

Batch normalisation and constants into convolutions and matrix products (Jacob et al. 2018, arXiv:1712.05877),
convolutions into convolutions, and re-parameterised branches into one convolution (RepVGG: Ding et al. 2021,
arXiv:2101.03697; MobileOne: Vasu et al. 2023, arXiv:2206.04040; asymmetric blocks: Ding et al. 2019, arXiv:1908.03930).
The operators are in edgepack/compression/folding.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgepack.compression.feeding import feeds_of_file
from edgepack.compression.method import Context, Metrics, OnnxMethod, Step
from edgepack.compression.selection import select
from edgepack.errors import EdgepackError, InputError

if TYPE_CHECKING:
    import onnx

_WHERE = "compress, fold"
_TOLERANCE = {2: 2e-2, 4: 1e-4, 8: 1e-9}  # relative, by bytes of the model's floating-point type
_CHECKED = 16  # samples


class Fold(Step):
    """Merge batch normalisation, scales, convolutions and summed branches into one layer where that is exact."""

    method: Literal["fold"]
    skip: tuple[str, ...] = Field(
        default=(), description="Nodes that stay: names of layers or nodes, with * and ? as wildcards."
    )


def apply(model: Path, out: Path, step: Fold, context: Context) -> Metrics:
    """Merge the linear operators of ``model`` into ``out``, and compare the outputs of both.

    Metrics: ``nodes`` and ``macs`` as ``[before, after]``; ``folded``: ``sequences``, ``branches`` and ``identities``,
    how many; ``layers``: the nodes that each merged one stands for; ``kept_whole``: neighbours that stay, with the reason;
    ``error``: the largest relative difference of the outputs.

    Raises:
        InputError: nothing can be merged, or a ``skip`` name is unknown.
        EdgepackError: the outputs differ by more than rounding.
    """
    from edgepack.compression.folding.graph import Folder
    from edgepack.onnxfile import canonicalise, load_onnx, save_onnx
    from edgepack.onnxfile.counting import count
    from edgepack.onnxfile.encodings import decoders

    proto = load_onnx(model)
    nodes = len(proto.graph.node)
    # What decodes weights is linear, too, and no encoding recognises it once it is merged.
    decode = {name for names in decoders(proto).values() for name in names}
    folded = Folder(proto.graph, _select_skipped(proto.graph, step.skip) | decode).run()
    if not folded.merges:
        raise InputError(
            "there is nothing to fold",
            where=_WHERE,
            why="; ".join(f"{pair}: {reason}" for pair, reason in list(folded.left.items())[:4]) or None,
            next="remove this step",
        )
    save_onnx(canonicalise(proto), out)
    context.progress("folded", 0.5)
    return {
        "nodes": [nodes, len(load_onnx(out).graph.node)],
        "macs": [count(model).macs, count(out).macs],
        "folded": dict(folded.merges),
        "layers": folded.layers,
        "kept_whole": folded.left,
        "error": _compare(model, out, context),
    }


METHOD = OnnxMethod(
    spec=Fold,
    apply=apply,
    destroys={
        "quantized": "the scales of activations hold for the layers as they are; fold before quantizing",
        "half": "weights in 16 bits are not read as float32; fold first",
    },
    distributions=("onnx", "onnxruntime", "numpy"),
    sources=(
        "compression/batches.py",
        "compression/feeding.py",
        "compression/fold.py",
        "compression/folding",
        "compression/selection.py",
    ),
)


def _select_skipped(graph: "onnx.GraphProto", patterns: tuple[str, ...]) -> set[str]:
    constants = {tensor.name for tensor in graph.initializer}
    names = {
        node.name: (node.name, *(name.rpartition(".")[0] for name in node.input if name in constants))
        for node in graph.node
    }
    return set(select(patterns, names, kind="layer or node", where=f"{_WHERE}, skip"))


def _compare(model: Path, out: Path, context: Context) -> float:
    """The largest difference of an output, relative to its largest value, over samples; both files run in onnxruntime.

    Raises:
        EdgepackError: it is more than rounding.
    """
    import numpy as np

    from edgepack.onnxfile.sessions import open_session, run_session

    before, after = open_session(model), open_session(out)
    worst, size = 0.0, 8
    for feed in feeds_of_file(model, context, _CHECKED):
        pairs = zip(run_session(before, feed, model), run_session(after, feed, out), strict=True)
        for want, got in ((want, got) for want, got in pairs if want.dtype.kind == "f"):
            usual = np.isfinite(want)
            size = min(size, want.dtype.itemsize)
            scale = float(np.abs(want[usual]).max(initial=0)) or 1.0
            apart = np.abs(got[usual].astype(np.float64) - want[usual])
            worst = max(worst, float(apart.max(initial=0)) / scale)
    if not worst <= _TOLERANCE[size]:
        raise EdgepackError(
            f"folding changed the outputs by {worst:.1e}",
            where=str(model),
            why="the model amplifies rounding, or a layer was folded that must not be",
            next="skip layers, or remove this step",
        )
    return worst
