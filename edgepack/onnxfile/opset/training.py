"""Operators in training form: normalisation by the batch's own statistics, and random outputs."""

from typing import TYPE_CHECKING

from edgepack.errors import UnsupportedError
from edgepack.onnxfile.inlining import STANDARD
from edgepack.onnxfile.opset.applying import apply_rules
from edgepack.onnxfile.opset.rules import INFERENCE, refused
from edgepack.onnxfile.opset.site import Rule, Site, known_of
from edgepack.onnxfile.protos import graphs

if TYPE_CHECKING:
    import onnx

_RANDOM = "its output is random, so that the release could not be compared with it"


def without_training(model: "onnx.ModelProto", opset: int, where: str) -> "onnx.ModelProto":
    """Return a model of opset 18 or later in which no operator has a training form; itself if it has none.

    BatchNormalization with ``training_mode`` becomes the arithmetic that defines it, which rewrites and compilers
    cannot mistake for the normal form. Dropout outside of training becomes Identity. Functions must be inlined.
    ``opset`` is the user's file's, for errors.

    Raises:
        UnsupportedError: for operators whose outputs are random.
    """
    if not any(_RULES.get(node.op_type) for graph in graphs(model.graph) for node in graph.node):
        return model
    changed = type(model)()
    changed.CopyFrom(model)
    problems = apply_rules(changed.graph, _rule, known_of(changed), opset)
    if problems:
        raise UnsupportedError(where, problems)
    return changed


def _rule(node: "onnx.NodeProto") -> Rule | None:
    return _RULES.get(node.op_type) if node.domain in STANDARD else None


def _batch_statistics(site: Site) -> None:
    """BatchNormalization with ``training_mode``: mean and variance are those of the batch, per channel."""
    if not site.attribute("training_mode", 0):
        return
    x, scale, bias, mean, variance = site.node.input
    epsilon, momentum = site.like(site.attribute("epsilon", 1e-5)), site.attribute("momentum", 0.9)
    shape = site.shape()
    rank = len(shape) if shape is not None else 4
    outputs = list(site.node.output)
    axes, column = site.tensor([0, *range(2, rank)]), site.tensor([1, -1, *[1] * (rank - 2)])
    center = site.add("ReduceMean", x, axes, keepdims=1)
    centered = site.add("Sub", x, center)
    spread = site.add("ReduceMean", site.add("Mul", centered, centered), axes, keepdims=1)
    deviation = site.add("Sqrt", site.add("Add", spread, epsilon))
    normal = site.add("Mul", site.add("Div", centered, deviation), site.add("Reshape", scale, column))
    for output, old, new in zip(outputs[1:], (mean, variance), (center, spread), strict=False):
        if output:
            flat = site.add("Reshape", new, site.tensor([-1]))
            kept = site.add("Mul", old, site.like(momentum, 3))
            added = site.add("Mul", flat, site.like(1 - momentum, 3))
            site.add("Add", kept, added, output=output)
    site.outputs(1)
    site.replace("Add", normal, site.add("Reshape", bias, column))


def _dropout(site: Site) -> None:
    """Dropout: the identity, unless ``training_mode`` is true and its ratio is not 0."""
    training = site.constant(2)
    asked = len(site.node.input) > 2 and bool(site.node.input[2])  # noqa: PLR2004 - the third is training_mode
    if asked and (training is None or training.any()):
        ratio = site.constant(1)
        if ratio is None or ratio.any():
            refused("it is in training mode, and its output is random", INFERENCE)(site)
    if not site.used(1):
        site.outputs(1)
        site.replace("Identity", site.node.input[0])


_RULES: dict[str, Rule] = {
    "BatchNormalization": _batch_statistics,
    "Dropout": _dropout,
    **dict.fromkeys(
        (
            "Bernoulli",
            "Multinomial",
            "RandomNormal",
            "RandomNormalLike",
            "RandomUniform",
            "RandomUniformLike",
        ),
        refused(_RANDOM, "make the random numbers an input of the model"),
    ),
}
