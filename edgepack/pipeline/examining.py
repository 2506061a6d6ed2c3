"""``check --deep`` of a recipe: its model before compression, exported first if it is a torch source."""

from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.temporary import temporary_folder
from edgepack.config.plan import Plan
from edgepack.errors import naming

if TYPE_CHECKING:
    from edgepack.lower.deep import Examined


def examine_plan(plan: Plan) -> "Examined":
    """Report everything in a recipe's model that cannot be lowered.

    Raises:
        InputError: a torch source cannot be loaded or exported, or its weights do not match it.
    """
    from edgepack.export import to_onnx
    from edgepack.lower.deep import examine
    from edgepack.pipeline.stages.torch_models import rebuilders
    from edgepack.torchnet.source import load_source

    model, base = plan.recipe.model, plan.base
    if model.onnx is not None:
        return examine(base / model.onnx, model.inputs)
    module = load_source(model, base, rebuilders()).module
    with (
        temporary_folder(prefix="edgepack-check-") as folder,
        naming(folder, model.source or "", plan.path),
    ):
        return examine(to_onnx(module, model.inputs, Path(folder, "model.onnx")))
