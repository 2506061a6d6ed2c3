"""Working on ONNX's protobuf messages: graphs and their subgraphs, what nodes read, names, dead code."""

from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

IR_VERSION = 10
"""IR version of every canonical file: initializers need not be inputs (4), and opset 23 is supported."""


def graphs(graph: "onnx.GraphProto") -> "Iterator[onnx.GraphProto]":
    """Yield ``graph`` and the subgraphs of its control-flow nodes."""
    yield graph
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from graphs(inner)


def inner_graphs(node: "onnx.NodeProto") -> "Iterator[onnx.GraphProto]":
    """Yield the graphs in a node's attributes."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            if graph.node or graph.output:
                yield graph


def reads(node: "onnx.NodeProto") -> Iterator[str]:
    """Yield the names that a node reads, in its subgraphs as well; some of the latter may be defined there."""
    yield from (name for name in node.input if name)
    for graph in inner_graphs(node):
        for each in graphs(graph):
            yield from (name for inner in each.node for name in inner.input if name)
            yield from (value.name for value in each.output)


def copy_of(message: Any) -> Any:
    """Return a copy of a protobuf message, which stays valid when the original's container is cleared."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def replace_all(container: Any, messages: "list[Any]") -> None:
    """Replace the messages of a repeated field."""
    kept = [copy_of(message) for message in messages]
    del container[:]
    container.extend(kept)


def drop_dead(graph: "onnx.GraphProto") -> None:
    """Remove, in place, nodes and initializers that no output depends on, and inputs that are initializers.

    The nodes must be in topological order. Files of IR version 3 list initializers as inputs.
    """
    live = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if live.intersection(node.output):
            kept.append(node)
            live.update(reads(node))
    if len(kept) < len(graph.node):
        replace_all(graph.node, kept[::-1])
    constants = {tensor.name for tensor in graph.initializer}
    _remove(graph.initializer, lambda tensor: tensor.name not in live)
    _remove(graph.input, lambda value: value.name in constants)


def _remove(container: Any, unwanted: Callable[[Any], bool]) -> None:
    for i in reversed(range(len(container))):
        if unwanted(container[i]):
            del container[i]


def unique_name(name: str, taken: AbstractSet[str]) -> str:
    """Return ``name``, with a number if it is taken."""
    unique, n = name, 1
    while unique in taken:
        unique, n = f"{name}_{n}", n + 1
    return unique
