"""Remove channels from an ONNX model, or mask them."""

from collections import defaultdict
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from edgepack.compression.onnx_channels.graph import OnnxChannels

if TYPE_CHECKING:
    import numpy as np
    import onnx


def masked(channels: OnnxChannels, removed: AbstractSet[int]) -> "onnx.ModelProto":
    """Return a copy of the analysed model in which no layer reads the channels in ``removed``.

    In a grouped convolution the outputs of a removed input are also removed, so it is not masked.
    """
    import numpy as np
    from onnx import numpy_helper

    model = _copy(channels)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for layer, numbers in channels.inputs.items():
        gone = [i for i, number in enumerate(numbers) if channels.sets.root(number) in removed]
        if not gone or channels.groups_of(layer) > 1:
            continue
        index, across = channels.weights[layer]
        tensor = tensors[channels.node(layer).input[index]]
        weights = np.moveaxis(numpy_helper.to_array(tensor).copy(), across, 0)
        weights[gone] = 0
        tensor.CopyFrom(
            numpy_helper.from_array(np.ascontiguousarray(np.moveaxis(weights, 0, across)), tensor.name)
        )
    return model


def without(channels: OnnxChannels, removed: AbstractSet[int]) -> "onnx.ModelProto":
    """Return the analysed model without every channel whose set is in ``removed``, in canonical form.

    A constant that several nodes read is copied for each node that needs another part of it.
    """
    import numpy as np

    from edgepack.onnxfile import canonicalise

    model = _copy(channels)
    arrays: dict[tuple[int, int], np.ndarray] = {}
    for cut in channels.cuts:
        keep = channels.kept(cut.numbers, removed)
        if len(keep) < len(cut.numbers):
            at = cut.node, cut.index
            before = (
                arrays[at] if at in arrays else channels.value(model.graph.node[cut.node].input[cut.index])
            )
            arrays[at] = np.take(before, keep, axis=cut.axis)
    for part in channels.dimensions:
        keep = channels.kept(part.numbers, removed)
        if len(keep) < len(part.numbers):
            at = part.node, part.index
            before = (
                arrays[at] if at in arrays else channels.value(model.graph.node[part.node].input[part.index])
            )
            arrays[at] = before.copy()
            arrays[at].ravel()[part.position] = len(keep)
    _replace(model, channels, arrays)
    for layer, numbers in channels.inputs.items():
        groups = channels.groups_of(layer)
        if groups > 1:
            left = groups * len(channels.kept(numbers, removed)) // len(numbers)
            node = model.graph.node[channels.nodes[layer]]
            next(attribute for attribute in node.attribute if attribute.name == "group").i = left
    return canonicalise(model)


def _copy(channels: OnnxChannels) -> "onnx.ModelProto":
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(channels.model)
    return model


def _replace(
    model: "onnx.ModelProto", channels: OnnxChannels, arrays: "dict[tuple[int, int], np.ndarray]"
) -> None:
    """Write the new constants; a name that other inputs use too is kept for those that still need the old one."""
    import numpy as np
    from onnx import numpy_helper

    from edgepack.onnxfile.protos import unique_name

    users: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for at in arrays:
        users[model.graph.node[at[0]].input[at[1]]].append(at)
    taken = set(channels.shapes)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, places in users.items():
        distinct: dict[bytes, str] = {}
        for at in places:
            array = np.ascontiguousarray(arrays[at])
            key = repr(array.shape).encode() + array.tobytes()
            if key not in distinct:
                only = channels.uses[name] == len(places) and not distinct
                new = name if only else unique_name(name, taken)
                taken.add(new)
                target = tensors[name] if only else model.graph.initializer.add()
                target.CopyFrom(numpy_helper.from_array(array, new))
                distinct[key] = new
            model.graph.node[at[0]].input[at[1]] = distinct[key]
