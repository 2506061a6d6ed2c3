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
        InputError: a torch source cannot be loaded or exported.
    """
    from edgepack.export import to_onnx
    from edgepack.lower.deep import examine
    from edgepack.torchnet.source import build_source

    model, base = plan.recipe.model, plan.base
    if model.onnx is not None:
        return examine(base / model.onnx, model.inputs)
    source = model.source or ""
    with temporary_folder(prefix="edgepack-check-") as folder, naming(folder, source, plan.path):
        return examine(to_onnx(build_source(source, base), model.fed, Path(folder, "model.onnx")))
