"""``evaluate``: what onnxruntime says of the model, and samples with its outputs to hold the board against."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgepack.engine.stage import Ingredients, Output, Request, StageResult, Work
from edgepack.pipeline.contract import ModelStage
from edgepack.pipeline.figures import EvaluateFigures
from edgepack.pipeline.stages import onnx_models
from edgepack.pipeline.stages.samples import samples
from edgepack.pipeline.state import CandidateRun, Resources
from edgepack.spec import Data, Input, Spec

if TYPE_CHECKING:
    import numpy as np

    from edgepack.data import Splits

RANDOM_SAMPLES = 4  # inputs made up for parity, where the recipe has no data


class EvaluateSpec(Spec):
    """The model's inputs, and the samples to judge it by."""

    inputs: tuple[Input, ...]
    data: Data | None


class EvaluateStage(ModelStage[EvaluateSpec, EvaluateFigures]):
    """The last stage that knows no target."""

    name = "evaluate"
    figures = EvaluateFigures

    def ingredients(self, spec: EvaluateSpec) -> Ingredients:
        """The code that runs and counts .onnx files."""
        del spec
        return Ingredients(onnx_models.TOOLS, (*onnx_models.SOURCES, "pipeline/stages/evaluate.py"))

    def requests(self, at: CandidateRun) -> Iterator[Request[EvaluateSpec]]:
        """One."""
        spec = EvaluateSpec(inputs=at.inputs, data=at.plan.recipe.data)
        yield Request(spec, {**at.files.data, "onnx": at.artifacts["onnx"]})

    def run(self, work: Work[EvaluateSpec, Resources]) -> StageResult[EvaluateFigures]:
        """Run the test samples, or made-up ones."""
        import numpy as np

        from edgepack.export.reference import run_onnx

        path, inputs = work.inputs["onnx"], work.spec.inputs
        data = samples(work.spec.data, work.resources.base)
        arrays = _batches(inputs, data)
        count = len(next(iter(arrays.values())))
        runs = [run_onnx(path, {name: x[i] for name, x in arrays.items()}) for i in range(count)]
        saved = {f"input_{i}": arrays[given.name] for i, given in enumerate(inputs)}
        saved |= {f"output_{i}": np.stack([run[i] for run in runs]) for i in range(len(runs[0]))}
        batch = inputs[0].shape[0]
        if data is not None:
            saved["labels"] = data.y_test[: count * batch].reshape(count, batch)
        out = work.scratch / "samples.npz"
        np.savez(out, allow_pickle=False, **saved)
        figures = EvaluateFigures(
            **onnx_models.facts(path, data).model_dump(),
            samples=count,
            classes=tuple(data.classes) if data is not None else (),
            vocabulary=tuple(data.vocabulary) if data is not None else (),
        )
        return StageResult(figures, {"samples": Output(out, "samples", "samples.npz")})


def _batches(inputs: tuple[Input, ...], data: "Splits | None") -> "dict[str, np.ndarray]":
    """Inputs by name, each ``[N, *shape]``: the test split in batches, or seeded random numbers."""
    import numpy as np

    if data is not None:
        (given,) = inputs
        batch = given.shape[0]
        count = len(data.x_test) // batch
        x = data.x_test[: count * batch].reshape(count, *given.shape)
        return {given.name: x.astype(given.dtype)}
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for given in inputs:
        shape = (RANDOM_SAMPLES, *given.shape)
        floating = given.dtype.startswith("float")
        arrays[given.name] = (
            rng.standard_normal(shape).astype(given.dtype) if floating else np.zeros(shape, given.dtype)
        )
    return arrays
