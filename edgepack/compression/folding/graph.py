"""Merge the linear operators of a graph, in place, until none are left that can be merged."""

from collections import Counter
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from edgepack.compression.folding.linear import Linear, in_sequence, macs, summed
from edgepack.compression.folding.reading import (
    count_nodes,
    read_linear,
    reads_of,
    static_shapes,
    write_linear,
)
from edgepack.onnxfile.protos import inner_graphs, replace_all, unique_name

if TYPE_CHECKING:
    import onnx

_BRANCHES = 2  # that are merged at once
_DEPTH = 4  # operators in sequence that are merged at once
_SAVES_NOT = "one operator for both takes more multiply-accumulates"
_FILLS = "the zeros of pruned weights would be filled"
_NO_GAIN = "it would take as many operators"
_SHARED = "their weights are shared with other layers"


@dataclass(frozen=True)
class _Chain:
    """Operators in sequence: what they compute together of ``source``, and the nodes."""

    operator: Linear
    source: str
    nodes: tuple[str, ...]
    macs: int
    nonzeros: int


@dataclass
class Folded:
    """What was merged.

    Attributes:
        merges: how many of each kind.
        layers: the layers that took up others, with the names of the nodes that they replace.
        left: pairs of operators that stay, with the reason.
    """

    merges: Counter[str] = field(default_factory=Counter)
    layers: dict[str, list[str]] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


class Folder:
    """A graph in canonical form, with static shapes, and its linear operators."""

    def __init__(self, graph: "onnx.GraphProto", skipped: set[str]) -> None:
        """Prepare to merge the operators of ``graph``, except the nodes ``skipped``."""
        self._graph = graph
        self._skipped = skipped
        self._shapes = static_shapes(graph)
        self._outputs = {value.name for value in graph.output}
        self._fed = {value.name for value in graph.input}
        self.folded = Folded()
        self._refresh()

    def run(self) -> Folded:
        """Merge until nothing is left to merge."""
        while self._identities() or self._sequences() or self._sums():
            self._refresh()
        self._explain()
        return self.folded

    def _refresh(self) -> None:
        nodes = self._graph.node
        self._constants = {tensor.name: tensor for tensor in self._graph.initializer}
        self._makers = {name: node for node in nodes for name in node.output if name}
        self._nodes = {node.name: node for node in nodes}
        self._readers = reads_of(nodes)

    def _read(self, node: "onnx.NodeProto") -> _Chain | None:
        if node.name in self._skipped:
            return None
        found = read_linear(node, self._constants, self._shapes)
        if found is None or found[1] not in self._shapes or node.output[0] not in self._shapes:
            return None
        operator, source = found
        cost = macs(operator, self._shapes[source], self._shapes[node.output[0]])
        return _Chain(operator, source, (node.name,), cost, operator.nonzeros)

    def _extended(self, chain: _Chain) -> _Chain | str | None:
        """The chain with the operator before it; None if there is none that only the chain reads."""
        before = self._makers.get(chain.source)
        if before is None or len(self._readers[chain.source]) > 1 or chain.source in self._outputs:
            return None
        own = self._read(before)
        if own is None:
            return None
        both = in_sequence(own.operator, chain.operator)
        if isinstance(both, str):
            return both
        return _Chain(
            both, own.source, (*own.nodes, *chain.nodes), own.macs + chain.macs, own.nonzeros + chain.nonzeros
        )

    def _chains(self, node: "onnx.NodeProto | None") -> list[_Chain]:
        """The operators that end in a node: it alone, with the one before it, and so on."""
        found: list[_Chain] = []
        chain: _Chain | str | None = None if node is None else self._read(node)
        while isinstance(chain, _Chain) and len(found) < _DEPTH:
            found.append(chain)
            chain = self._extended(chain)
        return found

    def _identities(self) -> bool:
        """Remove nodes that return their input."""
        kept, renamed = [], dict[str, str]()
        for node in self._graph.node:
            for index, name in enumerate(node.input):
                if name in renamed:
                    node.input[index] = renamed[name]
            if node.name in self._skipped or not self._returns_input(node) or self._named_outside(node):
                kept.append(node)
                continue
            renamed[node.output[0]] = node.input[0]
            self.folded.merges["identities"] += 1
        if not renamed:
            return False
        replace_all(self._graph.node, kept)
        return True

    def _named_outside(self, node: "onnx.NodeProto") -> bool:
        """Whether a node's output is the model's, or read in a subgraph: its name must stay."""
        readers = self._readers.get(node.output[0], ())
        return node.output[0] in self._outputs or any(any(inner_graphs(self._nodes[r])) for r in readers)

    def _returns_input(self, node: "onnx.NodeProto") -> bool:
        attributes = {a.name: a for a in node.attribute}
        if node.domain or not node.input:
            return False
        shapes = self._shapes
        same = node.input[0] in shapes and shapes.get(node.output[0]) == shapes[node.input[0]]
        if node.op_type == "Identity":
            return True
        if node.op_type == "Dropout":
            trains = len(node.input) > 2 and node.input[2]  # noqa: PLR2004 - its third input is training_mode
            return not trains and len([name for name in node.output if name]) == 1
        if node.op_type in {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand"}:
            return same
        if node.op_type == "Transpose":
            return "perm" in attributes and list(attributes["perm"].ints) == sorted(attributes["perm"].ints)
        if node.op_type in {"Concat", "Sum", "Max", "Min", "Mean"}:
            return len(node.input) == 1
        if node.op_type == "Pad":
            pads = self._constants.get(node.input[1]) if len(node.input) > 1 else None
            return pads is not None and not any(_integers(pads))
        chain = self._read(node)
        return same and chain is not None and chain.operator.is_identity and chain.source == node.input[0]

    def _sequences(self) -> bool:
        """Merge the first operators in sequence for which that saves."""
        for node in self._graph.node:
            for chain in self._chains(node)[1:]:
                if self._why_not(chain, node) is None:
                    self._replace(chain, node, "sequences")
                    return True
        return False

    def _sums(self) -> bool:
        """Merge the first two branches that are summed."""
        for node in self._graph.node:
            for chain in self._branches(node):
                if not isinstance(chain, str) and self._why_not(chain, node) is None:
                    self._replace(chain, node, "branches")
                    return True
        return False

    def _branches(self, node: "onnx.NodeProto") -> "list[_Chain | str]":
        """The operators that compute a sum of two branches of one value."""
        if (
            node.op_type not in {"Add", "Sum"}
            or node.domain
            or len(node.input) != _BRANCHES
            or node.name in self._skipped
        ):
            return []
        shape = self._shapes.get(node.output[0])
        if shape is None or any(
            self._shapes.get(name) != shape or name in self._constants for name in node.input
        ):
            return []
        left, right = (self._operand(name) for name in node.input)
        found: list[_Chain | str] = []
        for a in left:
            for b in right:
                if a.source == b.source and (a.nodes or b.nodes):
                    both = summed(a.operator, b.operator, self._shapes[a.source], shape)
                    found.append(
                        both
                        if isinstance(both, str)
                        else _Chain(
                            both,
                            a.source,
                            (*a.nodes, *b.nodes, node.name),
                            a.macs + b.macs,
                            a.nonzeros + b.nonzeros,
                        )
                    )
        return found

    def _operand(self, name: str) -> list[_Chain]:
        """The operators that a branch may be: nothing at all, or those that end in it, if nothing else reads it."""
        import numpy as np

        nothing = Linear("affine", np.ones(1), np.zeros(1), None)
        found = [_Chain(nothing, name, (), 0, 0)]
        if len(self._readers[name]) == 1 and name not in self._outputs:
            found += self._chains(self._makers.get(name))
        return found

    def _why_not(self, chain: _Chain, last: "onnx.NodeProto") -> str | None:
        """Why a merge does not pay; None if it does."""
        read, written = self._shapes[chain.source], self._shapes[last.output[0]]
        rank = len(written)
        if macs(chain.operator, read, written) > chain.macs:
            return _SAVES_NOT
        if chain.operator.kind != "affine" and chain.operator.nonzeros > chain.nonzeros:
            return _FILLS
        if self._shares(chain):
            return _SHARED
        return None if count_nodes(chain.operator, rank) < len(chain.nodes) else _NO_GAIN

    def _shares(self, chain: _Chain) -> bool:
        """Whether other nodes use the weights, so that they would be stored twice."""
        own = set(chain.nodes)
        read = {each for name in chain.nodes for each in self._nodes[name].input if each in self._constants}
        large = (
            name for name in read if max(self._constants[name].dims, default=1) < _size(self._constants[name])
        )
        return any(set(self._readers[name]) - own for name in large)

    def _replace(self, chain: _Chain, last: "onnx.NodeProto", kind: str) -> None:
        """Write the nodes of a chain in place of those that it consists of."""
        from onnx import helper, numpy_helper

        main = max(
            (self._nodes[name] for name in chain.nodes),
            key=lambda node: max(
                (_size(self._constants[i]) for i in node.input if i in self._constants), default=0
            ),
        )
        weights = [name for name in main.input if name in self._constants]
        dtype = numpy_helper.to_array(self._constants[weights[0]]).dtype
        named = max(weights, key=lambda name: _size(self._constants[name]))
        written = self._shapes[last.output[0]]
        used = {name for name in self._readers if set(self._readers[name]) - set(chain.nodes)} | self._outputs
        stem = _free(named.rpartition(".")[0] or main.name, used | self._makers.keys() | self._fed)
        new, constants = write_linear(
            chain.operator, stem, chain.source, last.output[0], rank=len(written), dtype=dtype
        )
        new = new or [helper.make_node("Identity", [chain.source], [last.output[0]], stem)]
        others = {node.name for node in self._graph.node} - set(chain.nodes)
        for node in new:
            node.name = unique_name(node.name, others)
            others.add(node.name)
            self._shapes[node.output[0]] = written
        nodes = []
        for node in self._graph.node:
            if node.name == last.name:
                nodes += new
            elif node.name not in chain.nodes:
                nodes.append(node)
        replace_all(self._graph.node, nodes)
        left = [tensor for tensor in self._graph.initializer if tensor.name in used]
        replace_all(self._graph.initializer, left)
        for name, value in constants.items():
            self._graph.initializer.append(numpy_helper.from_array(value, name))
        self.folded.merges[kind] += 1
        merged = [each for name in chain.nodes for each in self.folded.layers.pop(name, [name])]
        self.folded.layers[new[-1].name] = merged

    def _explain(self) -> None:
        """Note why operators that follow each other, or are summed, stay."""
        for node in self._graph.node:
            chains = self._chains(node)
            if len(chains) > 1 and (reason := self._why_not(chains[1], node)) not in (None, _NO_GAIN):
                self.folded.left[f"{chains[1].nodes[0]} → {node.name}"] = str(reason)
            if len(chains) == 1 and isinstance(why := self._extended(chains[0]), str):
                before = self._makers[chains[0].source]
                self.folded.left[f"{before.name} → {node.name}"] = why
            for chain in self._branches(node)[-1:]:
                reason = chain if isinstance(chain, str) else self._why_not(chain, node)
                if reason is not None:
                    self.folded.left[" + ".join(self._label(name) for name in node.input)] = reason

    def _label(self, value: str) -> str:
        maker = self._makers.get(value)
        return value if maker is None else maker.name


def _free(stem: str, taken: AbstractSet[str]) -> str:
    """A name under which neither weight nor bias is taken."""
    free, number = stem, 1
    while {f"{free}.weight", f"{free}.bias"} & taken:
        free, number = f"{stem}_{number}", number + 1
    return free


def _size(tensor: "onnx.TensorProto") -> int:
    return prod(tensor.dims)


def _integers(tensor: "onnx.TensorProto") -> list[int]:
    from onnx import numpy_helper

    return [int(each) for each in numpy_helper.to_array(tensor).reshape(-1)]
