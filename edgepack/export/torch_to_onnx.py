"""Export a torch.nn.Module to ONNX: eval mode, static shapes, folded batch normalisation, fixed opset.

The exporter is ``torch.onnx.export(dynamo=True)``, which torch maintains. It is slower than the
TorchScript exporter it replaced (seconds instead of tenths), folds batch normalisation into convolutions
by itself, and names weights as in the module.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.data.user_code import spot
from edgepack.errors import EdgepackError, InputError
from edgepack.export.importing import fold_norms_checked, simplify_checked
from edgepack.export.recurrent import packing_refused, projections_as_loops
from edgepack.onnxfile import canonicalise, save_onnx
from edgepack.onnxfile.importing import fold_model_weights
from edgepack.onnxfile.integer_weights import INT4_OPSET
from edgepack.onnxfile.protos import graphs
from edgepack.onnxfile.quiet import quiet
from edgepack.onnxfile.sparse_blocks import store_sparse
from edgepack.spec import Input
from edgepack.torchnet.layers import example_inputs, inference

if TYPE_CHECKING:
    import onnx
    import torch

OPSET = 18
"""The exported opset: 18 is the exporter's native one, so that no version conversion is needed.

A module with weights of at most 4 bits is exported with the first opset that has them.
"""


def to_onnx(module: "torch.nn.Module", inputs: Sequence[Input], path: Path) -> Path:
    """Export ``module`` to ``path`` in canonical form; outputs are named ``output`` or ``output_0``...

    The module's mode and gradients are preserved. Weights with many zeros are stored in sparse blocks. Returns ``path``.

    Raises:
        InputError: if the module cannot run on ``inputs``, or torch cannot export it.
    """
    import torch
    from torch.utils import _pytree

    from edgepack.torchnet.stored import as_stored

    if not inputs:
        raise InputError(
            "the model's inputs are unknown", next="add model.inputs to the recipe: name and shape"
        )
    examples = example_inputs(inputs)
    name, module = type(module).__name__, as_stored(module)
    try:
        with inference(module), quiet():
            flat = _pytree.tree_leaves(_forward(module, inputs, examples))
            names = ["output"] if len(flat) == 1 else [f"output_{i}" for i in range(len(flat))]
            program = torch.onnx.export(
                projections_as_loops(module, examples),
                examples,
                input_names=[spec.name for spec in inputs],
                output_names=names,
                opset_version=_opset(module),
                dynamo=True,
                verbose=False,
                optimize=False,  # it would decode encoded weights: see simplify
            )
    except torch.onnx.OnnxExporterError as error:
        raise InputError(
            f"torch cannot export {name} to ONNX",
            where=spot(error),
            why=_first_cause(error),
            next="avoid data-dependent control flow and in-place indexing in forward()",
        ) from error
    if program is None:
        raise EdgepackError("torch.onnx.export returned nothing")
    exported = _named_as_stored(program.model_proto)
    simple = fold_norms_checked(simplify_checked(exported, name, then=fold_model_weights))
    save_onnx(store_sparse(simple), path)
    return path


def _opset(module: "torch.nn.Module") -> int:
    from edgepack.torchnet.stored import needs_int4

    return INT4_OPSET if needs_int4(module) else OPSET


def _named_as_stored(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return a canonical model in which the elements of a weight in another form, or their product with the scale, have its name."""
    from edgepack.torchnet.stored import stored_name

    model = canonicalise(model)
    names = {tensor.name: stored_name(tensor.name) for tensor in model.graph.initializer}
    levels = {name for name, new in names.items() if new != name}
    numbers = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Cast"}
    for node in model.graph.node:
        elements = numbers.get(node.input[0]) if node.op_type == "Mul" else None
        if elements in levels:
            names |= {node.output[0]: names[elements], elements: f"{names[elements]}.levels"}
    for tensor in model.graph.initializer:
        tensor.name = names[tensor.name]
    for graph in graphs(model.graph):
        for node in graph.node:
            for field in (node.input, node.output):
                for number, name in enumerate(field):
                    field[number] = names.get(name, name)
    return canonicalise(model)  # types of the values under their new names


def _forward(module: "torch.nn.Module", inputs: Sequence[Input], examples: "tuple[torch.Tensor, ...]") -> Any:
    try:
        with packing_refused(module):
            return module(*examples)
    except InputError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{spec.name}: {spec.dtype}{list(spec.shape)}" for spec in inputs)
        raise InputError(
            f"{type(module).__name__} does not run on the recipe's inputs",
            where=f"model.inputs ({shapes})",
            why=_first_cause(error),
            next="make model.inputs the shapes that forward() takes, batch included",
        ) from error


def _first_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    first_line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first_line}"
