"""``evaluate``: accuracy in onnxruntime, and samples with reference outputs for the board."""

from pathlib import Path
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

RANDOM_SAMPLES = 4  # random inputs for parity, if the recipe has no data


class EvaluateSpec(Spec):
    """The model's inputs and samples; the user's original .onnx file, if nothing has changed it."""

    inputs: tuple[Input, ...]
    data: Data | None
    original: str | None


class EvaluateStage(ModelStage[EvaluateSpec, EvaluateFigures]):
    """Runs the model in onnxruntime."""

    name = "evaluate"
    figures = EvaluateFigures

    def ingredients(self, spec: EvaluateSpec) -> Ingredients:
        """The code that runs .onnx files and counts their operations."""
        del spec
        return Ingredients(onnx_models.TOOLS, (*onnx_models.SOURCES, "pipeline/stages/evaluate.py"))

    def request(self, at: CandidateRun) -> Request[EvaluateSpec]:
        """The request, for every candidate."""
        original = None if at.candidate.steps else at.plan.recipe.model.onnx
        spec = EvaluateSpec(inputs=at.inputs, data=at.plan.recipe.data, original=original)
        files = {**at.files.data, "onnx": at.artifacts["onnx"]}
        return Request(spec, files if original is None else {**at.files.model, **files})

    def run(self, work: Work[EvaluateSpec, Resources]) -> StageResult[EvaluateFigures]:
        """Run the test samples, or random ones."""
        import numpy as np

        from edgepack.export.reference import open_session, run_session

        path, inputs, base = work.inputs["onnx"], work.spec.inputs, work.resources.base
        reference = path if work.spec.original is None else base / work.spec.original
        data = samples(work.spec.data, base)
        arrays = _batches(reference, inputs, data)
        count = len(next(iter(arrays.values())))
        session = open_session(reference)
        runs = [
            run_session(session, {name: x[i] for name, x in arrays.items()}, reference) for i in range(count)
        ]
        saved = {f"input_{i}": arrays[given.name] for i, given in enumerate(inputs)}
        saved |= {f"output_{i}": np.stack([run[i] for run in runs]) for i in range(len(runs[0]))}
        batch = inputs[0].shape[0]
        if data is not None:
            saved["labels"] = data.y_test[: count * batch].reshape(count, batch)
        out = work.scratch / "samples.npz"
        np.savez(out, allow_pickle=False, **saved)
        figures = EvaluateFigures(
            **onnx_models.facts(path, data, reference=reference, shape=inputs[0].shape).model_dump(),
            samples=count,
            classes=tuple(data.classes) if data is not None else (),
            vocabulary=tuple(data.vocabulary) if data is not None else (),
        )
        return StageResult(figures, {"samples": Output(out, "samples", "samples.npz")})


def _batches(path: Path, inputs: tuple[Input, ...], data: "Splits | None") -> "dict[str, np.ndarray]":
    """Inputs by name, each ``[N, *shape]``: the test split in batches, or seeded random inputs."""
    import numpy as np

    from edgepack.export.sampling import made_up

    if data is not None:
        (given,) = inputs
        batch = given.shape[0]
        count = len(data.x_test) // batch
        x = data.x_test[: count * batch].reshape(count, *given.shape)
        return {given.name: x.astype(given.dtype)}
    samples = made_up(path, inputs, RANDOM_SAMPLES)
    return {given.name: np.stack([sample.inputs[given.name] for sample in samples]) for given in inputs}
