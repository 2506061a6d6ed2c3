"""prune-channels on an .onnx file: the weights alone, without training."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.compression.method import Context, Metrics, require_consistent
from edgepack.errors import EdgepackError, InputError

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from edgepack.compression.channel_choice import PruneChannels, Start
    from edgepack.compression.onnx_channels import OnnxChannels
    from edgepack.torchnet.channels.table import ChannelGroup

_TOLERANCE = 1e-3  # relative; pruning only removes terms from sums, apart from rounding


def apply(model: Path, out: Path, step: "PruneChannels", context: Context) -> Metrics:
    """Prune the file, and check it in onnxruntime against the original with those channels masked.

    Metrics: ``parameters`` (elements of constants) and ``macs`` as ``[before, after]``; ``layers``: name to channels
    ``[before, after]``; ``kept_whole``: name to the reason why a layer was not pruned.

    Raises:
        InputError: if nothing in the model can be pruned, a ``skip`` name is unknown, a budget cannot be met, the criterion
            does not apply, or samples are missing.
    """
    from edgepack.compression.channel_choice import Start, conflicts, nothing_removed
    from edgepack.compression.onnx_channels import analyse
    from edgepack.onnxfile import load_onnx, save_onnx
    from edgepack.onnxfile.counting import count

    require_consistent(step, conflicts(step))
    if step.fine_tune is not None or step.criterion == "taylor":
        raise InputError(
            "prune-channels cannot train an .onnx file",
            where=f"compress, prune-channels, {'criterion' if step.fine_tune is None else 'fine_tune'}",
            next="give the torch module as model.source, or use another criterion and no fine_tune",
        )
    start = Start()
    pruned = load_onnx(model)
    for iteration in range(1, step.iterations + 1):
        pruned, analysed = _prune_once(pruned, step, context, iteration / step.iterations, start)
        context.progress(f"iteration {iteration}/{step.iterations}", iteration / step.iterations)
    channels = analyse(pruned)
    left = {name: len(channels.outputs[name]) for name in channels.inputs}
    if left == start.widths:
        raise nothing_removed(model.name, step, analysed)
    save_onnx(pruned, out)
    before, after = count(model), count(out)
    return {
        "parameters": [before.parameters, after.parameters],
        "macs": [before.macs, after.macs],
        "layers": {name: [width, left[name]] for name, width in start.widths.items()},
        "kept_whole": analysed.reasons(),
    }


def _prune_once(
    model: "onnx.ModelProto", step: "PruneChannels", context: Context, share: float, start: "Start"
) -> "tuple[onnx.ModelProto, OnnxChannels]":
    """Return the model pruned to ``share`` of the way, and the channels it had."""
    from edgepack.compression.channel_choice import Chooser, lock_sensitive, lock_skipped
    from edgepack.compression.feeding import onnx_feeds
    from edgepack.compression.onnx_channels import analyse, masked, without
    from edgepack.compression.sensitive import COMPARED
    from edgepack.onnxfile.counting import macs_by_node

    channels = analyse(model)
    lock_skipped(channels, step, {name: (channels.node(name).name, name) for name in channels.producers})
    start.widths = start.widths or {name: len(channels.outputs[name]) for name in channels.inputs}

    least = Chooser(
        channels,
        step,
        context.lanes,
        score=lambda groups: _scores(channels, groups, step, context),
        volumes={"macs": channels.macs(macs_by_node(model)), "size": channels.elements()},
    )

    def outputs(removed: AbstractSet[int]) -> "list[np.ndarray]":
        import numpy as np

        feeds = onnx_feeds(model, context, COMPARED, step.seed)
        names = [value.name for value in model.graph.output]
        runs = _run(masked(channels, removed), feeds, names)
        return [np.stack([run[name] for run in runs]) for name in names]

    lock_sensitive(channels, step, start, least=least, outputs=outputs, context=context)
    removed = least(channels.groups(), share, start)
    if not removed:
        return model, channels
    pruned = without(channels, removed)
    _check_equal(pruned, masked(channels, removed))
    return pruned, channels


def _scores(
    channels: "OnnxChannels", groups: "Sequence[ChannelGroup]", step: "PruneChannels", context: Context
) -> list[list[float]]:
    """Return the importance of the members of each group."""
    from edgepack.compression import ranking

    if step.criterion == "random":
        return [ranking.random_importance(group, step.seed) for group in groups]
    if step.criterion == "activation":
        by_set = ranking.average_by_set(channels, _activations(channels, step, context))
        return [[by_set.get(root, 0.0) for root in group.members] for group in groups]
    by_layer = _norms(channels) if step.criterion == "bn" else _filter_norms(channels, step.criterion)
    relative = step.criterion != "bn" or step.scope == "layer"
    return [
        ranking.require_scores(
            ranking.combine(channels, group, by_layer, relative=relative), group, step.criterion
        )
        for group in groups
    ]


def _norms(channels: "OnnxChannels") -> dict[str, list[float]]:
    import numpy as np

    norms = [name for name in channels.outputs if name not in channels.inputs]
    return {name: np.abs(channels.value(channels.node(name).input[1])).tolist() for name in norms}


def _filter_norms(channels: "OnnxChannels", criterion: str) -> dict[str, list[float]]:
    import numpy as np

    power = 1 if criterion == "l1" else 2
    return {
        name: np.linalg.norm(channels.filters(name).astype("float64"), ord=power, axis=1).tolist()
        for name in channels.inputs
    }


def _activations(channels: "OnnxChannels", step: "PruneChannels", context: Context) -> dict[str, list[float]]:
    """Return the mean magnitude of each input channel of every layer, over random samples."""
    import numpy as np

    from edgepack.compression.feeding import onnx_feeds

    feeds = onnx_feeds(channels.model, context, step.samples, step.seed)
    read = {layer: channels.node(layer).input[0] for layer in channels.inputs}
    totals: dict[str, np.ndarray] = {}
    for values in _run(channels.model, feeds, sorted(set(read.values()))):
        for layer, name in read.items():
            array = np.abs(values[name])
            across = 1 if channels.node(layer).op_type.startswith("Conv") else array.ndim - 1
            mean = np.moveaxis(array, across, 0).reshape(array.shape[across], -1).mean(1)
            totals[layer] = totals.get(layer, 0.0) + mean
    return {layer: total.tolist() for layer, total in totals.items()}


def _run(
    model: "onnx.ModelProto", feeds: "Sequence[Mapping[str, np.ndarray]]", names: "Sequence[str]"
) -> "list[dict[str, np.ndarray]]":
    """Run the model on each feed, and return the values of these names, and those that it was fed."""
    from edgepack.base.temporary import temporary_folder
    from edgepack.onnxfile import save_onnx
    from edgepack.onnxfile.sessions import open_session, run_session

    outputs = [value.name for value in model.graph.output]
    inputs = {value.name for value in model.graph.input}
    also = [name for name in names if name not in outputs and name not in inputs]
    with temporary_folder(prefix="edgepack-prune-") as folder:
        path = Path(folder) / "model.onnx"
        save_onnx(model, path)
        session = open_session(path, also=also)
        produced = [output.name for output in session.get_outputs()]
        runs = [run_session(session, dict(feed), path) for feed in feeds]
    return [
        {**dict(zip(produced, values, strict=True)), **feed} for values, feed in zip(runs, feeds, strict=True)
    ]


def _check_equal(pruned: "onnx.ModelProto", expected: "onnx.ModelProto") -> None:
    import numpy as np

    from edgepack.base.temporary import temporary_folder
    from edgepack.onnxfile import save_onnx
    from edgepack.onnxfile.importing import model_inputs
    from edgepack.onnxfile.sampling import made_up

    with temporary_folder(prefix="edgepack-prune-") as folder:
        path = Path(folder) / "masked.onnx"
        save_onnx(expected, path)
        (sample,) = made_up(path, model_inputs(expected), 1)
    names = [value.name for value in expected.graph.output]
    want = dict(zip(names, sample.outputs, strict=True))
    (got,) = _run(pruned, [sample.inputs], names)
    for name in names:
        close = _TOLERANCE * float(np.abs(want[name]).max(initial=0))
        if got[name].shape != want[name].shape or not np.allclose(got[name], want[name], _TOLERANCE, close):
            raise EdgepackError(
                "the pruned model does not compute the same as the masked original",
                why=f"an operator before {name} mixes channels in an unsupported way",
                next="remove this step, or skip the layers around the operator",
            )
