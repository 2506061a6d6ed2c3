"""Interpreter of a traced graph that fills a :class:`~edgepack.torchnet.channels.graph.ChannelGraph`."""

from typing import Any

import torch
import torch.fx
from torch import nn

from edgepack.torchnet.channels.axis_rules import FUNCTIONS, MODULES, Tracked, heads_of, operation
from edgepack.torchnet.channels.graph import ChannelGraph

INPUT = "its channels are the model's input"
OUTPUT = "its channels are the model's output"

_BINARY = frozenset(
    (
        "add",
        "sub",
        "mul",
        "truediv",
        "div",
        "iadd",
        "isub",
        "imul",
        "add_",
        "sub_",
        "mul_",
        "maximum",
        "minimum",
        "masked_fill",
        "masked_fill_",
    )
)
_PRODUCTS = frozenset(("matmul", "scaled_dot_product_attention"))
_QUESTIONS = frozenset(("size", "dim", "getattr"))  # they depend only on the shape
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Walk(torch.fx.Interpreter):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """Runs the graph on example inputs and tracks the channels of every tensor."""

    def __init__(self, traced: torch.fx.GraphModule, graph: ChannelGraph, shared: set[str]) -> None:
        super().__init__(traced)
        self._graph = graph
        self._sets = graph.sets
        self._shared = shared  # layers that share weights with others
        self._tracked: dict[torch.fx.Node, Tracked | None] = {}

    def run_node(self, n: torch.fx.Node) -> Any:
        """Compute the node, then track its channels."""
        value = super().run_node(n)
        self._tracked[n] = None
        if n.op == "output":
            self._lock_inputs(n, OUTPUT)
        elif n.op.startswith("call_") and operation(n) not in _QUESTIONS:
            self._tracked[n] = self._track(n, value) if isinstance(value, torch.Tensor) else None
            if self._tracked[n] is None:
                self._lock_inputs(n, f"{self._label(n)} needs all of them")
        return value

    def _track(self, n: torch.fx.Node, value: torch.Tensor) -> Tracked | None:
        if n.op == "call_module":
            layer, name = self.submodules[str(n.target)], str(n.target)
            incoming = self._of(n.args[0])
            plain = set(layer._parameters) <= {"weight", "bias"}  # noqa: SLF001 - weight_norm adds its own
            if type(layer) in (*_CONVOLUTIONS, nn.Linear) and plain:
                return self._producer(name, layer, incoming, value)
            if type(layer) in _NORMS and incoming is not None and incoming.axis == 1:
                return self._norm(name, incoming)
            rule = MODULES.get(type(layer))
        else:
            if operation(n) in _BINARY:
                return self._binary(n, value)
            if operation(n) in {"cat", "concat"}:
                return self._concatenation(n, value)
            if operation(n) in _PRODUCTS:
                return self._product(n, value)
            incoming = self._of(n.args[0]) if n.args else None
            if incoming is not None:
                heads = heads_of(incoming, n, self._value(n.args[0]).shape, value.shape)
                if heads is not None:
                    return self._heads(incoming, *heads)
            rule = FUNCTIONS.get(operation(n))
        if rule is None or incoming is None:
            return None
        return rule(incoming, n, self._value(n.args[0]).shape, value.shape)

    def _producer(self, name: str, layer: Any, incoming: Tracked | None, value: torch.Tensor) -> Tracked:
        graph, sets = self._graph, self._sets
        is_linear = isinstance(layer, nn.Linear)
        axis = value.dim() - 1 if is_linear else value.dim() - len(layer.kernel_size) - 1
        n_in, n_out = (
            (layer.in_features, layer.out_features) if is_linear else (layer.in_channels, layer.out_channels)
        )
        if incoming is not None and incoming.axis != axis:
            sets.lock(incoming.numbers, f"{name} reads them along another axis")
            incoming = None
        if incoming is None:
            incoming = Tracked(axis, sets.fresh(n_in))
            sets.lock(incoming.numbers, INPUT)
        if name not in graph.inputs:
            graph.inputs[name] = incoming.numbers
            graph.outputs[name] = sets.fresh(n_out)
            if not is_linear and layer.groups > 1:
                graph.tie_groups(incoming.numbers, graph.outputs[name], layer.groups)
        else:  # the layer is used more than once
            graph.tie(graph.inputs[name], incoming.numbers)
        if name in self._shared:
            sets.lock([*incoming.numbers, *graph.outputs[name]], "its weights are shared with another layer")
        return Tracked(axis, graph.outputs[name])

    def _norm(self, name: str, incoming: Tracked) -> Tracked:
        self._graph.tie(self._graph.outputs.setdefault(name, incoming.numbers), incoming.numbers)
        if name in self._shared:
            self._sets.lock(incoming.numbers, "its scales are shared with another layer")
        return incoming

    def _binary(self, n: torch.fx.Node, value: torch.Tensor) -> Tracked | None:
        """Element-wise operation on two operands: equal channels, or a broadcast along other axes."""
        operands = [a for a in n.args if isinstance(self._value(a), torch.Tensor)]
        known = [(tracked, self._value(a).dim()) for a in operands if (tracked := self._of(a)) is not None]
        if not known:
            return None
        first, rank = known[0]
        from_right = rank - first.axis
        for a in operands:
            tracked, operand = self._of(a), self._value(a)
            if tracked is None:
                if operand.dim() >= from_right and operand.shape[-from_right] > 1:
                    return None
            elif operand.dim() - tracked.axis != from_right or len(tracked.numbers) != len(first.numbers):
                return None
            else:
                self._graph.tie(first.numbers, tracked.numbers)
        return Tracked(value.dim() - from_right, first.numbers)

    def _heads(self, incoming: Tracked, axis: int, size: int) -> Tracked:
        """Keep or remove the channels of a head together."""
        numbers = incoming.numbers
        for start in range(0, len(numbers), size):
            self._graph.tie([numbers[start]] * (size - 1), numbers[start + 1 : start + size])
        return Tracked(axis, numbers[::size])

    def _product(self, n: torch.fx.Node, value: torch.Tensor) -> Tracked | None:
        """A product of matrices for each head: the heads are an axis before the last two of every operand."""
        found: Tracked | None = None
        for argument in n.all_input_nodes:
            tracked, operand = self._of(argument), self._value(argument)
            from_right = None if found is None else value.dim() - found.axis
            if tracked is None:
                others = [self._of(each) for each in n.all_input_nodes]
                axes = {
                    self._value(each).dim() - t.axis
                    for each, t in zip(n.all_input_nodes, others, strict=True)
                    if t
                }
                if any(operand.dim() >= axis and operand.shape[-axis] > 1 for axis in axes):
                    return None
                continue
            if tracked.axis >= operand.dim() - 2:
                return None
            if found is None:
                found = Tracked(value.dim() - operand.dim() + tracked.axis, tracked.numbers)
            elif operand.dim() - tracked.axis != from_right or len(tracked.numbers) != len(found.numbers):
                return None
            else:
                self._graph.tie(found.numbers, tracked.numbers)
        return found

    def _concatenation(self, n: torch.fx.Node, value: torch.Tensor) -> Tracked | None:
        parts: Any = n.args[0] if n.args else n.kwargs["tensors"]
        if isinstance(parts, torch.fx.Node):  # the result of chunk() or split(): its channels are locked
            return None
        dim: Any = n.args[1] if len(n.args) > 1 else n.kwargs.get("dim", n.kwargs.get("axis", 0))
        axis = dim % value.dim()
        numbers: list[int] = []
        for part in parts:
            tracked = self._of(part)
            if tracked is None:
                tracked = Tracked(axis, self._sets.fresh(self._value(part).shape[axis]))
                self._sets.lock(tracked.numbers, INPUT)
            if tracked.axis != axis:
                return None
            numbers += tracked.numbers
        return Tracked(axis, numbers)

    def _of(self, argument: Any) -> Tracked | None:
        return self._tracked.get(argument) if isinstance(argument, torch.fx.Node) else None

    def _value(self, argument: Any) -> Any:
        return self.env.get(argument) if isinstance(argument, torch.fx.Node) else argument

    def _lock_inputs(self, n: torch.fx.Node, reason: str) -> None:
        for source in n.all_input_nodes:
            tracked = self._tracked.get(source)
            if tracked is not None:
                self._sets.lock(tracked.numbers, reason)

    def _label(self, n: torch.fx.Node) -> str:
        if n.op == "call_module":
            return f"{type(self.submodules[str(n.target)]).__name__} ({n.target})"
        return operation(n)
