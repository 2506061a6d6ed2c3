"""Store weights with many zeros as the blocks that are not zero, and restore them."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.onnxfile.block_form import SparseBlocks, smaller_blocks

if TYPE_CHECKING:
    import numpy as np
    import onnx


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
        sparse = smaller_blocks(array, inputs_first=roles[tensor.name])
        if sparse is not None:
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
