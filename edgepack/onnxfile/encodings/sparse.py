"""Sparse weights: only the blocks that are not zero are stored, with their places.

The form is ``ScatterND(zeros, places, blocks)``, where the places of the blocks among all blocks are stored as distances
(``CumSum``) in one byte each; nodes that put the blocks into the order of the weight follow. Blocks may be single weights.
"""

import math
from typing import TYPE_CHECKING

from edgepack.onnxfile.encodings.expressions import (
    LAYOUT,
    PARAMETER,
    Decoding,
    expression,
    is_constant,
    itemsize,
    nbytes,
    static_shape,
)
from edgepack.onnxfile.encodings.expressions import dtype_of as dtype

if TYPE_CHECKING:
    import onnx_ir

_ZEROS = LAYOUT | {"ConstantOfShape", "Expand"}
_PLACES = LAYOUT | {"Add", "Cast", "CumSum", "Mul", "Sub"}

OPERATORS = _ZEROS | _PLACES | {"ScatterND"}
"""Operators between the constants and the weight."""


def sparse_blocks(node: "onnx_ir.Node") -> Decoding | None:
    """``ScatterND(zeros, places, blocks)``, all from constants that are smaller together than the decoded constant."""
    if node.op_type != "ScatterND" or node.attributes.get_string("reduction", "none") != "none":
        return None
    background, where, updates = node.inputs
    zeros, places, blocks = (
        expression(background, _ZEROS), expression(where, _PLACES), expression(updates, PARAMETER)
    )  # fmt: skip
    shape = static_shape(node.outputs[0])
    if updates is None or zeros is None or places is None or blocks is None or shape is None:
        return None
    filled = [each for each in zeros.nodes if each.op_type == "ConstantOfShape"]
    if not filled or dtype(updates) == "":
        return None
    tensors = tuple(dict.fromkeys((*blocks.constants, *places.constants, *zeros.constants)))
    if sum(map(nbytes, tensors)) >= math.prod(shape) * itemsize(updates):
        return None
    nodes = tuple(dict.fromkeys((*zeros.nodes, *places.nodes, *blocks.nodes, node)))
    return Decoding("sparse-blocks", tensors, nodes, shape, dtype(updates), itemsize(updates))


def placed_blocks(node: "onnx_ir.Node") -> "tuple[onnx_ir.Node, ...]":
    """Return the nodes that compute a weight from its blocks, up to where it is read; none if ``node`` places no blocks.

    Only nodes that rearrange the weight follow: a quantized one is still quantized.
    """
    decoded = sparse_blocks(node)
    if decoded is None:
        return ()
    nodes, output = [*decoded.nodes], decoded.output
    while not output.is_graph_output() and len(output.uses()) == 1:
        (use,) = output.uses()
        others = [value for value in use.node.inputs if value is not None and value is not output]
        if use.node.op_type not in LAYOUT or not all(map(is_constant, others)):
            break
        nodes.append(use.node)
        output = use.node.outputs[0]
    return tuple(nodes)
