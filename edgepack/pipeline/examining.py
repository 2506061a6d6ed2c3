"""``check --deep`` of a recipe: its model before compression, exported first if it is a torch source."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.temporary import temporary_folder
from edgepack.config.plan import Plan
from edgepack.errors import naming
from edgepack.scoring import Scorer
from edgepack.spec import Input

if TYPE_CHECKING:
    from edgepack.lower.deep import Examined


def examine_plan(plan: Plan) -> "Examined":
    """Report everything in a recipe's model that cannot be lowered; its data or samples are run through it, too.

    Raises:
        InputError: a torch source cannot be loaded or exported, its weights do not match it, or the data cannot be
            loaded or the model does not take it.
    """
    from edgepack.export import to_onnx
    from edgepack.lower.deep import examine
    from edgepack.onnxfile.binding import bound
    from edgepack.pipeline.stages.torch_models import rebuilders
    from edgepack.torchnet.source import load_source

    model, base = plan.recipe.model, plan.base
    if model.onnx is not None:
        found = examine(base / model.onnx, model.inputs)
        if not found.model_problems:
            with bound(base / model.onnx, model.inputs) as (original, given):
                _try_samples(original, given, plan)
        return found
    loaded = load_source(model, base, rebuilders(base, (model.source or "",)), trust=plan.trust)
    with (
        temporary_folder(prefix="edgepack-check-") as folder,
        naming(folder, model.source or "", plan.path),
    ):
        exported = to_onnx(loaded.module, model.fed, Path(folder, "model.onnx"))
        found = examine(exported)
        if not found.model_problems:
            _try_samples(exported, model.fed, plan)
        return replace(found, notes=loaded.notes)


def _try_samples(path: Path, given: Sequence[Input], plan: Plan) -> None:
    """Run one batch of the recipe's data or samples through the model, as a run will."""
    from edgepack.data import fit_inputs, load_data
    from edgepack.data.inputs_file import load_inputs
    from edgepack.data.splits import take
    from edgepack.export import load_onnx, run_onnx
    from edgepack.export.reference import predict_all
    from edgepack.onnxfile.importing import model_inputs

    recipe, base = plan.recipe, plan.base
    if recipe.data is None and recipe.samples is None:
        return
    fixed = {each.name: each for each in given}
    inputs = [fixed.get(each.name, each) for each in model_inputs(load_onnx(path))]
    if recipe.samples is not None:
        samples = load_inputs(base / recipe.samples, inputs)
        run_onnx(path, {name: array[0] for name, array in samples.items()})
    if recipe.data is not None:
        data = fit_inputs(load_data(recipe.data, base), inputs)
        batch = inputs[0].shape[0] if inputs[0].shape else 1
        shapes = [each.shape for each in inputs]
        outputs = predict_all(path, take(data.x_test, slice(0, batch)), shapes=shapes)
        scorer = Scorer(recipe.scored_by, base)
        for targets in (data.y_train, data.y_test):
            if targets is not None and not scorer.of_source:
                scorer.check(outputs, targets)
