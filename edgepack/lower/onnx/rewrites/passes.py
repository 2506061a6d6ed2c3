"""Apply the rewrites to a model."""

from collections.abc import Callable, Mapping
from typing import Any

from edgepack.lower.onnx.nodes import Node, ValueType
from edgepack.lower.onnx.rewrites.indicators import rewrite_one_hot
from edgepack.lower.onnx.rewrites.patch import Patch
from edgepack.lower.onnx.rewrites.resizing import rewrite_resize
from edgepack.lower.onnx.rewrites.spectra import rewrite_dft, rewrite_stft
from edgepack.onnxfile import canonicalise, opset_of
from edgepack.onnxfile.inlining import STANDARD

Rewrite = Callable[[Node, Patch], list[str] | None]
"""Builds the values that replace a node's outputs, in order; None if the node's form needs no rewrite, or has none."""

REWRITES: Mapping[str, tuple[Rewrite, ...]] = {
    "DFT": (rewrite_dft,),
    "OneHot": (rewrite_one_hot,),
    "Resize": (rewrite_resize,),
    "STFT": (rewrite_stft,),
}
"""By operator; the first that applies is used. What it builds is rewritten in turn."""

_ROUNDS = 8  # what a rewrite builds needs another rewrite, at most as often


def rewrite(model: Any, types_of: Callable[[Any], Mapping[str, ValueType]]) -> Any:
    """Return a model in canonical form with all rewrites applied; ``types_of`` returns the types of a graph's values."""
    for _ in range(_ROUNDS):
        changed = _rewrite_once(model, types_of(model.graph))
        if changed is None:
            return model
        model = canonicalise(changed)
    return model


def _rewrite_once(model: Any, types: Mapping[str, ValueType]) -> Any:
    """Return the model with each node rewritten at most once; None if there was nothing to rewrite."""
    import onnx

    opset = opset_of(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes, added = [], []
    for proto in model.graph.node:
        patch = None
        if proto.domain in STANDARD and proto.op_type in REWRITES:
            patch = _apply(Node(proto, types, constants), opset)
        if patch is None:
            nodes.append(proto)
        else:
            nodes.extend(patch.nodes)
            added.extend(patch.constants)
    if len(nodes) == len(model.graph.node) and all(
        a is b for a, b in zip(nodes, model.graph.node, strict=True)
    ):
        return None
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    changed.graph.initializer.extend(added)
    for value in changed.graph.output:  # inferred again: ONNX's inference is wrong for some forms of STFT
        value.type.tensor_type.ClearField("shape")
    return changed


def _apply(node: Node, opset: int) -> Patch | None:
    """Return the patch of the first rewrite that applies, its results named as the node's outputs."""
    for each in REWRITES[node.proto.op_type]:
        patch = Patch(node.proto.name, opset)
        results = each(node, patch)
        if results is None:
            continue
        made = {name for built in patch.nodes for name in built.output}
        names: dict[str, str] = {}
        for result, output in zip(results, node.proto.output, strict=False):
            if not output:
                continue
            if result in made and result not in names:
                names[result] = output
            else:
                patch.nodes.append(_identity(names.get(result, result), output))
        for built in patch.nodes:
            for field in (built.input, built.output):
                field[:] = [names.get(name, name) for name in field]
        return patch
    return None


def _identity(value: str, output: str) -> Any:
    import onnx

    return onnx.helper.make_node("Identity", [value], [output], name=output)
