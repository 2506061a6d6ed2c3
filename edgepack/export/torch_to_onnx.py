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
from edgepack.export.importing import simplify_checked
from edgepack.onnxfile import canonicalise, save_onnx
from edgepack.onnxfile.importing import fold_model_weights
from edgepack.onnxfile.quiet import quiet
from edgepack.onnxfile.sparse_blocks import store_sparse
from edgepack.spec import Input
from edgepack.torchnet.layers import example_inputs, inference

if TYPE_CHECKING:
    import torch

OPSET = 18
"""The exported opset: 18 is the exporter's native one, so that no version conversion is needed."""


def to_onnx(module: "torch.nn.Module", inputs: Sequence[Input], path: Path) -> Path:
    """Export ``module`` to ``path`` in canonical form; outputs are named ``output`` or ``output_0``...

    The module's mode and gradients are preserved. Weights with many zeros are stored in sparse blocks. Returns ``path``.

    Raises:
        InputError: if the module cannot run on ``inputs``, or torch cannot export it.
    """
    import torch
    from torch.utils import _pytree

    if not inputs:
        raise InputError(
            "the model's inputs are unknown", next="add model.inputs to the recipe: name and shape"
        )
    examples = example_inputs(inputs)
    try:
        with inference(module), quiet():
            flat = _pytree.tree_leaves(_forward(module, inputs, examples))
            names = ["output"] if len(flat) == 1 else [f"output_{i}" for i in range(len(flat))]
            program = torch.onnx.export(
                module,
                examples,
                input_names=[spec.name for spec in inputs],
                output_names=names,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
                optimize=False,  # it would decode encoded weights: see simplify
            )
    except torch.onnx.OnnxExporterError as error:
        raise InputError(
            f"torch cannot export {type(module).__name__} to ONNX",
            where=spot(error),
            why=_first_cause(error),
            next="avoid data-dependent control flow and in-place indexing in forward()",
        ) from error
    if program is None:
        raise EdgepackError("torch.onnx.export returned nothing")
    exported = canonicalise(program.model_proto)
    simple = simplify_checked(exported, type(module).__name__, then=fold_model_weights)
    save_onnx(store_sparse(simple), path)
    return path


def _forward(module: "torch.nn.Module", inputs: Sequence[Input], examples: "tuple[torch.Tensor, ...]") -> Any:
    try:
        return module(*examples)
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
