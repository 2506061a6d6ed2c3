"""The nodes of the user's file that the nodes of an imported model come from, and the modules that they belong to."""

import re
from collections.abc import Iterable
from typing import Any

from edgepack.spec.kernels import NodeRef

_PARAMETER = re.compile(r"(?P<module>.+?)\.(weight|bias|[^.]*$)")
"""Names that torch's exporter gives to parameters: the module's path, a dot, the parameter, and what it is a part of."""


def node_refs(original: Any, imported: Any) -> dict[str, NodeRef]:
    """Return, by the name of a node of ``imported``, the node of ``original`` that it computes, or a part of it.

    ``imported`` is ``original`` after rewrites, which keep the names of values and add others. A node of a rewrite computes
    a part of the node for whose output it is needed first.
    """
    refs = {name: ref for node, ref in _named(original) for name in node.output if name}
    found: dict[str, NodeRef] = {}
    needed: dict[str, NodeRef] = {}  # by value: the node of the first one that reads it
    for node in reversed(imported.graph.node):
        own = next((refs[name] for name in node.output if name in refs), None)
        ref = own or next((needed[name] for name in node.output if name in needed), None)
        if ref is not None:
            found[node.name] = ref
            needed |= dict.fromkeys(filter(None, node.input), ref)
    return found


def _named(model: Any) -> Iterable[tuple[Any, NodeRef]]:
    modules = {tensor.name: _module(tensor.name) for tensor in model.graph.initializer}
    for number, node in enumerate(model.graph.node):
        given = [modules[name] for name in node.input if name in modules]
        module = next(filter(None, given), None)
        if given and len(given) == sum(map(bool, node.input)):  # a constant, such as a decoded weight
            modules |= dict.fromkeys(node.output, module)
        name = node.name or f"{node.op_type}_{number}"  # as the import names it
        yield node, NodeRef(name=name, operator=node.op_type, module=module)


def _module(parameter: str) -> str | None:
    match = _PARAMETER.match(parameter)
    return match["module"] if match else None
