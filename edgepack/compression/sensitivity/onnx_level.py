"""The layers of an .onnx file, changed one at a time.

Weights are fed to one onnxruntime session in place of the initializers, so that the model is loaded once.
"""

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base.temporary import temporary_folder
from edgepack.compression.sensitivity.probes import Edit
from edgepack.compression.sensitivity.scan import ProbedLayer, Subject
from edgepack.onnxfile import load_onnx, save_onnx
from edgepack.onnxfile.protos import replace_all
from edgepack.onnxfile.sessions import open_session, run_session

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Feed = Mapping[str, np.ndarray]

# Operator -> inputs that are weights, and the axis of the output channels.
_WEIGHTS = {
    "Conv": ((1,), 0),
    "ConvTranspose": ((1,), 1),
    "Gemm": ((1,), -1),  # unless it is transposed
    "MatMul": ((1,), -1),
    "LSTM": ((1, 2), 1),
    "GRU": ((1, 2), 1),
    "RNN": ((1, 2), 1),
    "Gather": ((0,), 0),  # a table of embeddings
}


@dataclass(frozen=True)
class _Weighted:
    """A layer: the nodes that use the same weights."""

    nodes: tuple[str, ...]
    operator: str
    weights: tuple[str, ...]
    axis: int
    activations: tuple[str, ...]  # the input of each node; none for a table of embeddings


class OnnxSubject(Subject):
    """An .onnx file in canonical form, and samples. Its layers are the nodes with constant floating-point weights.

    A layer has the name of its weights without their last part, as ``stem.0`` for ``stem.0.weight``, or of its node.
    """

    def __init__(self, path: Path, feeds: "Sequence[Feed]") -> None:
        """Prepare to run ``feeds``: inputs by name, each of the model's shape."""
        self._path = path
        self._feeds = feeds
        self._model = load_onnx(path)
        self._constants = {tensor.name: tensor for tensor in self._model.graph.initializer}
        self._weighted = dict(self._find())
        self.layers: dict[str, ProbedLayer] = {}
        for name, layer in self._weighted.items():
            count = sum(math.prod(self._constants[weight].dims) for weight in layer.weights)
            self.layers[name] = ProbedLayer(name, layer.operator, count)

    def nodes(self, layer: str) -> tuple[str, ...]:
        """Return the names of the nodes that use the layer's weights."""
        return self._weighted[layer].nodes

    def run(self, layer: str | None = None, edit: Edit | None = None) -> "list[np.ndarray]":
        """Return each output for all samples, with ``edit`` applied to ``layer``."""
        import numpy as np
        from onnx import numpy_helper

        given: dict[str, np.ndarray] = {}
        session = self._session
        if layer is not None and edit is not None:
            found = self._weighted[layer]
            if edit.weights is not None:
                for name in found.weights:
                    value = numpy_helper.to_array(self._constants[name])
                    given[name] = edit.weights(value, found.axis)
            if edit.activation_bits is not None and self._rounds(found):
                session = self._rounding_session
                given |= self._rounding(layer, edit.activation_bits)
        runs = [run_session(session, {**feed, **given}, self._path) for feed in self._feeds]
        return [np.concatenate([np.atleast_1d(part) for part in parts]) for parts in zip(*runs, strict=True)]

    def _find(self) -> "list[tuple[str, _Weighted]]":
        by_weights: dict[tuple[str, ...], list[onnx.NodeProto]] = {}
        for node in self._model.graph.node:
            positions, _ = _WEIGHTS.get(node.op_type, ((), 0))
            weights = tuple(node.input[i] for i in positions if i < len(node.input))
            if weights and all(name in self._constants for name in weights):
                tensors = [self._constants[name] for name in weights]
                if all(_is_float(tensor) and len(tensor.dims) > 1 for tensor in tensors):
                    by_weights.setdefault(weights, []).append(node)
        taken: set[str] = set()
        found = []
        for weights, nodes in by_weights.items():
            first = nodes[0]
            stem = weights[0].rpartition(".")[0]
            name = stem if stem and stem not in taken else first.name
            taken.add(name)
            axis = _WEIGHTS[first.op_type][1]
            if first.op_type == "Gemm" and any(a.name == "transB" and a.i for a in first.attribute):
                axis = 0
            activations = () if first.op_type == "Gather" else tuple(node.input[0] for node in nodes)
            names = tuple(node.name for node in nodes)
            found.append((name, _Weighted(names, first.op_type, weights, axis, activations)))
        return found

    @cached_property
    def _session(self) -> Any:
        return self._open(self._model)

    @cached_property
    def _rounding_session(self) -> Any:
        """A session of the model in which the input of each layer can be rounded."""
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        for name, layer in self._weighted.items():
            if self._rounds(layer):
                _insert_rounding(model.graph, name, set(layer.nodes))
        return self._open(model)

    @cached_property
    def _kinds(self) -> dict[str, int]:
        graph = self._model.graph
        return {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.value_info)}

    def _rounds(self, layer: _Weighted) -> bool:
        """Whether the input of a layer can be rounded: it has one, in float32."""
        from onnx import TensorProto

        kinds = {self._kinds.get(name) for name in layer.activations}
        return kinds == {TensorProto.FLOAT}

    @cached_property
    def _ranges(self) -> dict[str, tuple[float, float]]:
        """The range of each layer's inputs over the samples, zero included, by layer."""
        rounded = {name: layer for name, layer in self._weighted.items() if self._rounds(layer)}
        wanted = dict.fromkeys(each for layer in rounded.values() for each in layer.activations)
        fed = {value.name for value in self._model.graph.input}
        shown = {value.name for value in self._model.graph.output}
        session = open_session(self._path, also=[name for name in wanted if name not in fed | shown])
        outputs = [output.name for output in session.get_outputs()]
        found = dict.fromkeys(rounded, (0.0, 0.0))
        for feed in self._feeds:
            values = dict(zip(outputs, run_session(session, feed, self._path), strict=True)) | dict(feed)
            for name, layer in rounded.items():
                low, high = found[name]
                ends = [(float(values[each].min()), float(values[each].max())) for each in layer.activations]
                found[name] = (min(low, *(end[0] for end in ends)), max(high, *(end[1] for end in ends)))
        return found

    def _rounding(self, layer: str, bits: int) -> "dict[str, np.ndarray]":
        """The settings that round the inputs of a layer to asymmetric integers."""
        import numpy as np

        low, high = self._ranges[layer]
        top = 2**bits - 1
        scale = (high - low) / top or 1.0
        return {
            f"{layer}.probe.on": np.asarray(1, bool),
            f"{layer}.probe.scale": np.asarray(scale, np.float32),
            f"{layer}.probe.zero": np.asarray(round(-low / scale), np.float32),
            f"{layer}.probe.top": np.asarray(top, np.float32),
        }

    def _open(self, model: "onnx.ModelProto") -> Any:
        """Open a session in which every initializer can be fed."""
        import onnx

        open_model = onnx.ModelProto()
        open_model.CopyFrom(model)
        graph = open_model.graph
        fed = {value.name for value in graph.input}
        for tensor in graph.initializer:
            if tensor.name not in fed:
                value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
                graph.input.append(value)
        with temporary_folder(prefix="edgepack-sensitivity-") as folder:
            path = Path(folder, "model.onnx")
            save_onnx(open_model, path)
            return open_session(path)


def _is_float(tensor: "onnx.TensorProto") -> bool:
    from onnx import TensorProto

    return tensor.data_type in {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE}


def _insert_rounding(graph: "onnx.GraphProto", layer: str, nodes: AbstractSet[str]) -> None:
    """Let ``nodes`` read their first input rounded, if ``{layer}.probe.on`` is fed as true."""
    import numpy as np
    from onnx import helper, numpy_helper

    probe = f"{layer}.probe"
    settings: dict[str, np.ndarray] = {"on": np.asarray(0, bool)}
    settings |= {name: np.asarray(1, np.float32) for name in ("scale", "zero", "top")}
    settings["none"] = np.asarray(0, np.float32)
    for name, value in settings.items():
        graph.initializer.append(numpy_helper.from_array(value, f"{probe}.{name}"))
    changed = []
    for node in graph.node:
        if node.name in nodes:
            own = f"{node.name}.probe"
            steps = (
                ("Div", (node.input[0], f"{probe}.scale")),
                ("Round", (f"{own}.0",)),
                ("Add", (f"{own}.1", f"{probe}.zero")),
                ("Clip", (f"{own}.2", f"{probe}.none", f"{probe}.top")),
                ("Sub", (f"{own}.3", f"{probe}.zero")),
                ("Mul", (f"{own}.4", f"{probe}.scale")),
                ("Where", (f"{probe}.on", f"{own}.5", node.input[0])),
            )
            for number, (operator, inputs) in enumerate(steps):
                changed.append(
                    helper.make_node(operator, list(inputs), [f"{own}.{number}"], f"{own}.{operator}")
                )
            node.input[0] = f"{own}.{len(steps) - 1}"
        changed.append(node)
    replace_all(graph.node, changed)
