"""Store weights with many zeros as the blocks that are not zero, and restore them.

The blocks are those of the packed layout: rows are output channels and columns input channels, at each position of a
convolution's kernel. Their size is chosen for each weight so that it takes the fewest bytes; if every block of a pruned
weight was removed as a whole, it is the size of these blocks.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx

_HEIGHTS = (64, 32, 16, 8, 4, 2, 1)
_WIDTHS = (16, 8, 4, 2, 1)
_FARTHEST = 255  # distance to the next block, in one byte
_LARGEST = 0.85  # of the dense weight: decoding must be worth it
_LEAST_SAVED = 512  # bytes: the nodes that decode a weight take about as many in the file


@dataclass(frozen=True)
class SparseBlocks:
    """A weight as its blocks that are not zero.

    Attributes:
        blocks: ``[n, height, width]``.
        gaps: uint8 ``[n]``: the first place, then the distance of each block from the one before.
        grid: number of blocks along rows, positions and columns; the last of them counts fastest.
    """

    blocks: "np.ndarray"
    gaps: "np.ndarray"
    grid: tuple[int, int, int]

    @property
    def nbytes(self) -> int:
        """Stored bytes."""
        return int(self.blocks.nbytes + self.gaps.nbytes)

    def rows(self) -> "np.ndarray":
        """Decode: ``[rows, positions, columns]``."""
        import numpy as np

        n, height, width = self.blocks.shape
        every = np.zeros((math.prod(self.grid), height, width), self.blocks.dtype)
        every[np.cumsum(self.gaps.astype(np.int64))[:n]] = self.blocks
        r, p, c = self.grid
        return (
            every.reshape(r, p, c, height, width).transpose(0, 3, 1, 2, 4).reshape(r * height, p, c * width)
        )


def encode(rows: "np.ndarray") -> SparseBlocks:
    """Encode a weight ``[rows, positions, columns]`` with the block size that takes the fewest bytes."""
    import numpy as np

    best: tuple[int, int, int] | None = None
    for height in (each for each in _HEIGHTS if rows.shape[0] % each == 0):
        for width in (each for each in _WIDTHS if rows.shape[2] % each == 0):
            places = np.flatnonzero(_occupied(rows, height, width))
            count = max(1, len(places) + _fillers(places))
            size = count * (height * width * rows.dtype.itemsize + 1)
            if best is None or size < best[0]:
                best = size, height, width
    if best is None:
        raise ValueError("a weight without elements")
    return with_blocks(rows, *best[1:])


def with_blocks(rows: "np.ndarray", height: int, width: int) -> SparseBlocks:
    """Encode a weight ``[rows, positions, columns]``, of which blocks of this size are not zero or stored nevertheless.

    A block of zeros is stored where the next one is farther away than a byte can say, and if all are zero.
    """
    import numpy as np

    grid = rows.shape[0] // height, rows.shape[1], rows.shape[2] // width
    places: list[int] = []
    last = 0
    for place in np.flatnonzero(_occupied(rows, height, width)).tolist():
        while place - last > _FARTHEST:
            last += _FARTHEST
            places.append(last)
        places.append(place)
        last = place
    places = places or [0]
    split = rows.reshape(grid[0], height, grid[1], grid[2], width).transpose(0, 2, 3, 1, 4)
    blocks = np.ascontiguousarray(split.reshape(-1, height, width)[places])
    return SparseBlocks(blocks, np.diff(places, prepend=0).astype(np.uint8), grid)


def _occupied(rows: "np.ndarray", height: int, width: int) -> "np.ndarray":
    """Which blocks are not zero: bool, ``[rows of blocks, positions, columns of blocks]``."""
    r, p, c = rows.shape
    found: np.ndarray = (rows != 0).reshape(r // height, height, p, c // width, width).any((1, 4))
    return found


def _fillers(places: "np.ndarray") -> int:
    import numpy as np

    gaps = np.diff(places, prepend=0)
    return int(np.maximum(0, -(-gaps // _FARTHEST) - 1).sum())


def store_sparse(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return the model, in canonical form, with every weight in sparse blocks that takes fewer bytes so.

    Weights are those of convolutions and matrix products, also quantized ones. The same model is returned if there are
    none; results are equal bit by bit.
    """
    import onnx

    from edgepack.onnxfile.canonical import canonicalise

    found = list(_sparse_weights(model))
    if not found:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = list(copy.graph.node)
    names = {name for name, _, _ in found}
    kept = [tensor for tensor in copy.graph.initializer if tensor.name not in names]
    added: list[onnx.NodeProto] = []
    for name, shape, (sparse, inputs_first) in found:
        more, tensors = _decoder(name, shape, sparse, inputs_first=inputs_first)
        added += more
        kept += tensors
    del copy.graph.initializer[:], copy.graph.node[:]
    copy.graph.initializer.extend(kept)
    copy.graph.node.extend([*added, *nodes])
    return canonicalise(copy)


def _sparse_weights(
    model: "onnx.ModelProto",
) -> "Iterator[tuple[str, tuple[int, ...], tuple[SparseBlocks, bool]]]":
    """The weights that sparse blocks make smaller: name, shape, the blocks, and whether its first axis has the inputs."""
    from onnx import numpy_helper

    roles = _weights(model)
    for tensor in model.graph.initializer:
        if tensor.name not in roles:
            continue
        array = numpy_helper.to_array(tensor)
        if array.size == 0 or float((array != 0).mean()) > _LARGEST:
            continue
        sparse = encode(_as_rows(array, inputs_first=roles[tensor.name]))
        if sparse.nbytes < min(_LARGEST * array.nbytes, array.nbytes - _LEAST_SAVED):
            yield tensor.name, array.shape, (sparse, roles[tensor.name])


def _weights(model: "onnx.ModelProto") -> dict[str, bool]:
    """The weights by name, with whether their first axis has the inputs; only those that nothing else reads."""
    from edgepack.onnxfile.protos import graphs

    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    dims = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    stored = _stored_types()
    dequantized = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and not any(a.name == "block_size" for a in node.attribute)
    }
    roles: dict[str, set[bool | None]] = {}
    for graph in graphs(model.graph):
        for node in graph.node:
            for index, read in enumerate(node.input):
                role = _role(node, index)
                if node.op_type == "DequantizeLinear" and index == 0:
                    continue  # what reads its output decides
                for name in (read, dequantized.get(read, "")):
                    if name in types:
                        roles.setdefault(name, set()).add(role)
    outputs = {value.name for value in model.graph.output}
    found = {}
    for name, own in roles.items():
        (role, *others) = own
        quantized_output = any(dequantized.get(output) == name for output in outputs)
        if role is None or others or quantized_output or name in outputs:
            continue
        if types[name] in stored and dims[name] >= 2:  # noqa: PLR2004 - a matrix
            found[name] = role
    return found


def _stored_types() -> set[int]:
    from onnx import TensorProto

    return {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT8}


def _role(node: "onnx.NodeProto", index: int) -> bool | None:
    """Whether the weight's first axis has the inputs; None if the node's input is no weight."""
    if index != 1 or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Gemm":
        return not any(a.name == "transB" and a.i for a in node.attribute)
    return {"Conv": False, "ConvTranspose": True, "MatMul": True}.get(node.op_type)


def _as_rows(array: "np.ndarray", *, inputs_first: bool) -> "np.ndarray":
    """Rearrange a weight as ``[rows, positions, columns]``; a matrix product of several matrices has no positions."""
    import numpy as np

    rows = array.swapaxes(0, 1) if inputs_first else array
    split = rows.reshape(rows.shape[0], rows.shape[1], -1)
    return np.ascontiguousarray(split.transpose(0, 2, 1))


def _decoder(
    name: str, shape: tuple[int, ...], sparse: SparseBlocks, *, inputs_first: bool
) -> "tuple[list[onnx.NodeProto], list[onnx.TensorProto]]":
    """The nodes and constants that compute the weight ``name`` from its blocks."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    r, p, c = sparse.grid
    height, width = sparse.blocks.shape[1:]
    zero = numpy_helper.from_array(np.zeros(1, sparse.blocks.dtype))
    order = (2, 4, 0, 3, 1) if inputs_first else (0, 3, 2, 4, 1)
    constants = {
        "blocks": sparse.blocks,
        "gaps": sparse.gaps,
        "axis": np.array(0, np.int64),
        "last": np.array([1], np.int64),
        "places": np.array([r * p * c, height, width], np.int64),
        "grid": np.array([r, p, c, height, width], np.int64),
        "shape": np.array(shape, np.int64),
    }
    steps: tuple[tuple[str, list[str], str, dict[str, Any]], ...] = (
        ("ConstantOfShape", ["places"], "zeros", {"value": zero}),
        ("Cast", ["gaps"], "distances", {"to": TensorProto.INT64}),
        ("CumSum", ["distances", "axis"], "indices", {}),
        ("Unsqueeze", ["indices", "last"], "index", {}),
        ("ScatterND", ["zeros", "index", "blocks"], "scattered", {}),
        ("Reshape", ["scattered", "grid"], "split", {}),
        ("Transpose", ["split"], "ordered", {"perm": order}),
        ("Reshape", ["ordered", "shape"], "", {}),
    )
    nodes = [
        helper.make_node(
            operator,
            [f"{name}.{each}" for each in inputs],
            [f"{name}.{output}" if output else name],
            name=f"{name}.{output or 'decoded'}",
            **attributes,
        )
        for operator, inputs, output, attributes in steps
    ]
    tensors = [numpy_helper.from_array(array, f"{name}.{each}") for each, array in constants.items()]
    return nodes, tensors


def restore_dense(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return the model with every weight in sparse blocks as a plain constant; the same model if there are none."""
    import onnx
    import onnx_ir as ir
    from onnx import numpy_helper

    from edgepack.onnxfile.canonical import canonicalise
    from edgepack.onnxfile.encodings.sparse import placed_blocks

    found = [nodes for node in ir.from_proto(model).graph if (nodes := placed_blocks(node))]
    if not found:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    inner = {str(node.name) for nodes in found for node in nodes}
    wanted = [str(nodes[-1].outputs[0].name) for nodes in found]
    values = _computed(copy, inner, wanted)
    rest = [node for node in copy.graph.node if node.name not in inner or not set(node.output) & set(wanted)]
    del copy.graph.node[:]
    copy.graph.node.extend(rest)
    copy.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in zip(wanted, values, strict=True)
    )
    return canonicalise(copy)


def _computed(model: "onnx.ModelProto", names: set[str], outputs: list[str]) -> "list[np.ndarray]":
    """Run the nodes of these names in onnxruntime, and return the values of ``outputs``."""
    import onnx
    from onnx import TensorProto, helper

    from edgepack.base.temporary import temporary_folder
    from edgepack.onnxfile.sessions import open_session, run_session

    nodes = [node for node in model.graph.node if node.name in names]
    read = {name for node in nodes for name in node.input}
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    part = helper.make_model(
        helper.make_graph(
            nodes,
            "weights",
            [],
            [
                helper.make_tensor_value_info(name, types.get(name, TensorProto.UNDEFINED), None)
                for name in outputs
            ],
            [tensor for tensor in model.graph.initializer if tensor.name in read],
        ),
        opset_imports=list(model.opset_import),
        ir_version=model.ir_version,
    )
    with temporary_folder(prefix="edgepack-sparse-") as folder:
        path = Path(folder) / "weights.onnx"
        onnx.save_model(part, path)
        return run_session(open_session(path), {}, path)
