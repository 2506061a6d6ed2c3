"""Inline the local functions of a model: the checker cannot infer the types of values inside them.

The functions are resolved before ONNX's inliner sees them, since a chain of functions that each call the next one
ten times becomes larger than any memory, and one that calls itself never ends.
"""

from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING

from edgepack.errors import InputError
from edgepack.onnxfile.opset import to_opset
from edgepack.onnxfile.protos import graphs, replace_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import onnx

_MAX_NODES = 1_000_000  # of a model with its functions inlined; large networks have some ten thousand
_MAX_DEPTH = 64  # functions that call functions

_Key = tuple[str, str, str]


def inline_local(
    model: "onnx.ModelProto", where: str, registered: Collection[tuple[str, str]]
) -> "onnx.ModelProto":
    """Return the model with its local functions inlined; the model itself if it has none.

    Functions in the standard domain, or with the domain and name of a ``registered`` operator, are dropped: like
    onnxruntime, edgepack prefers the operator.

    Raises:
        InputError: a function calls itself, the result is too large, or a function cannot be inlined.
    """
    import onnx.inliner

    if not model.functions:
        return model
    functions = {
        _key(function, function.name): function
        for function in model.functions
        if function.domain and (function.domain, function.name) not in registered
    }
    calls = _calls(model.graph.node, functions)
    used = _reachable(calls, functions)
    if not used:
        del model.functions[:]
        return model
    _require_finite(model, functions, where)
    replace_all(model.functions, [function for key, function in functions.items() if key in used])
    if len(_opsets(model)) > 1:
        model = to_opset(model, where)
    try:
        return onnx.inliner.inline_local_functions(model, convert_version=True)
    except Exception as error:  # the inliner raises errors of no common class
        names = ", ".join(sorted({name for _, name, _ in used}))
        raise InputError(
            f"the model's functions cannot be inlined: {names}",
            where=where,
            why=str(error).strip(),
            next="export the model without local functions, or inline them: onnx.inliner.inline_local_functions",
        ) from error


def _opsets(model: "onnx.ModelProto") -> set[int]:
    owners = (model, *model.functions)
    return {int(each.version) for owner in owners for each in owner.opset_import if not each.domain}


def _key(owner: "onnx.NodeProto | onnx.FunctionProto", name: str) -> _Key:
    return (owner.domain, name, owner.overload)


def _every(nodes: "Iterable[onnx.NodeProto]") -> "Iterator[onnx.NodeProto]":
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                for graph in graphs(inner):
                    yield from graph.node


def _calls(
    nodes: "Iterable[onnx.NodeProto]", functions: "Mapping[_Key, onnx.FunctionProto]"
) -> "Counter[_Key]":
    keys = (_key(node, node.op_type) for node in _every(nodes))
    return Counter(key for key in keys if key in functions)


def _reachable(calls: "Iterable[_Key]", functions: "Mapping[_Key, onnx.FunctionProto]") -> set[_Key]:
    found: set[_Key] = set()
    pending = list(calls)
    while pending:
        key = pending.pop()
        if key not in found:
            found.add(key)
            pending += _calls(functions[key].node, functions)
    return found


def _require_finite(
    model: "onnx.ModelProto", functions: "Mapping[_Key, onnx.FunctionProto]", where: str
) -> None:
    sizes: dict[_Key, int] = {}

    def size(key: _Key, above: tuple[_Key, ...]) -> int:
        if key in above or len(above) > _MAX_DEPTH:
            names = " calls ".join(name for _, name, _ in (*above, key)[-4:])
            raise InputError(
                "a function of the model calls itself"
                if key in above
                else f"functions are nested deeper than {_MAX_DEPTH}",
                where=where,
                why=names,
                next="export the model without local functions",
            )
        if key not in sizes:
            body = functions[key].node
            sizes[key] = count(body, (*above, key))
        return sizes[key]

    def count(nodes: "Iterable[onnx.NodeProto]", above: tuple[_Key, ...]) -> int:
        inner = _calls(nodes, functions)
        return sum(1 for _ in _every(nodes)) + sum(n * size(key, above) for key, n in inner.items())

    total = count(model.graph.node, ())
    if total > _MAX_NODES:
        raise InputError(
            f"the model has {total} nodes with its functions inlined",
            where=where,
            why=f"the limit is {_MAX_NODES}",
            next="export the model without local functions",
        )
