"""``evaluate``: the metric in onnxruntime, and samples with reference outputs for the board."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.data.splits import Arrays, arrays_of, count_samples
from edgepack.engine.stage import Ingredients, Output, Request, StageResult, Work
from edgepack.errors import InputError
from edgepack.pipeline.contract import ModelStage
from edgepack.pipeline.figures import EvaluateFigures
from edgepack.pipeline.stages import onnx_models
from edgepack.pipeline.stages.samples import evaluation, of_source, samples, unlabelled
from edgepack.pipeline.state import CandidateRun, Resources
from edgepack.scoring import Evaluation, chance
from edgepack.spec import Data, Input, Metric, RecipeInput, Spec

if TYPE_CHECKING:
    import numpy as np

    from edgepack.data import Splits

MADE_UP = 4  # samples, if the recipe has neither data nor samples
_OWN = "give inputs for which they are not: samples: inputs.npz"


class EvaluateSpec(Spec):
    """The model's inputs and samples; the user's original .onnx file, if nothing has changed it."""

    inputs: tuple[Input, ...]
    data: Data | None
    original: str | None
    constants: tuple[RecipeInput, ...] = ()  # inputs of the original file that have a value in the recipe
    samples: str | None = None
    metric: Metric = Metric()


class EvaluateStage(ModelStage[EvaluateSpec, EvaluateFigures]):
    """Runs the model in onnxruntime."""

    name = "evaluate"
    figures = EvaluateFigures

    def ingredients(self, spec: EvaluateSpec) -> Ingredients:
        """The code that runs .onnx files and counts their operations."""
        del spec
        sources = ("export/rounding.py", "pipeline/stages/evaluate.py")
        return Ingredients(onnx_models.TOOLS, (*onnx_models.SOURCES, *sources))

    def request(self, at: CandidateRun) -> Request[EvaluateSpec]:
        """The request, for every candidate."""
        recipe = at.plan.recipe
        original = None if at.candidate.steps else recipe.model.onnx
        constants = () if original is None else tuple(x for x in recipe.model.inputs if x.value is not None)
        spec = EvaluateSpec(
            inputs=at.inputs,
            data=recipe.data,
            samples=recipe.samples,
            original=original,
            constants=constants,
            metric=recipe.scored_by,
        )
        files = {**at.files.data, **at.files.samples, "onnx": at.artifacts["onnx"]}
        files |= {**at.files.metric, **of_source(at.artifacts)}
        return Request(spec, files if original is None else {**at.files.model, **files})

    def run(self, work: Work[EvaluateSpec, Resources]) -> StageResult[EvaluateFigures]:
        """Run the test samples, the recipe's samples, or made-up ones."""
        from edgepack.onnxfile.binding import bound

        if work.spec.original is None:
            return self._evaluate(work, work.inputs["onnx"])
        with bound(work.resources.base / work.spec.original, work.spec.constants) as (reference, _):
            return self._evaluate(work, reference)

    def _evaluate(self, work: Work[EvaluateSpec, Resources], reference: Path) -> StageResult[EvaluateFigures]:
        import numpy as np

        from edgepack.export.rounding import rounding_spread
        from edgepack.onnxfile.sessions import open_session, run_session

        path, inputs, base = work.inputs["onnx"], work.spec.inputs, work.resources.base
        data = samples(work.spec.data, base, inputs)
        given = unlabelled(work.spec.samples, inputs, base)
        arrays = given if given is not None else _batches(reference, inputs, data)
        count = len(next(iter(arrays.values())))
        session = open_session(reference)
        feeds = [{name: x[i] for name, x in arrays.items()} for i in range(count)]
        runs = [run_session(session, feed, reference) for feed in feeds]
        names = [output.name for output in session.get_outputs()]
        made_up = given is None and data is None
        warnings = list(_warnings(names, runs, work.spec.original or str(reference), made_up=made_up))
        saved = {f"input_{i}": arrays[given.name] for i, given in enumerate(inputs)}
        saved |= {f"output_{i}": np.stack([run[i] for run in runs]) for i in range(len(runs[0]))}
        batch = inputs[0].shape[0] if inputs[0].shape else 1
        scored = evaluation(work.spec.metric, base, data, given, work.inputs)
        if scored is not None:
            saved |= _saved_targets(scored.targets, count, batch)
        out = work.scratch / "samples.npz"
        np.savez(out, allow_pickle=False, **saved)
        figures = EvaluateFigures(
            **onnx_models.facts(
                path,
                scored,
                reference=reference,
                inputs=inputs,
                outputs=_known(scored, runs, batch, own=given is not None),
            ).model_dump(),
            samples=count,
            classes=tuple(data.classes) if data is not None else (),
            vocabulary=tuple(data.vocabulary) if data is not None else (),
            chance=None if data is None else chance(data.y_test),
            rounding=rounding_spread(path, feeds, runs),
            warnings=tuple(warnings),
        )
        return StageResult(figures, {"samples": Output(out, "samples", "samples.npz")})


def _known(
    scored: Evaluation | None, runs: "Sequence[Sequence[np.ndarray]]", batch: int, *, own: bool
) -> "tuple[np.ndarray, ...] | None":
    """The outputs for what the model is scored on, if ``runs`` are those; with ``own``, they are of the recipe's samples."""
    from edgepack.export.reference import evaluated_outputs_of

    if scored is None or scored.whole != own:
        return None
    count = len(runs) if own else len(runs) * batch
    return evaluated_outputs_of(scored, runs) if count_samples(scored.inputs) == count else None


def _batches(path: Path, inputs: tuple[Input, ...], data: "Splits | None") -> "dict[str, np.ndarray]":
    """Inputs by name, each ``[N, *shape]``: the test split in batches, or made-up inputs."""
    import numpy as np

    from edgepack.onnxfile.sampling import made_up

    if data is not None:
        batch = inputs[0].shape[0]
        count = count_samples(data.x_test) // batch
        if not count:
            raise InputError(
                f"the test split has {count_samples(data.x_test)} samples, and the model takes batches of {batch}",
                where="data",
                next="give more test samples, or lower the batch size of model.inputs",
            )
        return {
            given.name: x[: count * batch].reshape(count, *given.shape).astype(given.dtype)
            for given, x in zip(inputs, arrays_of(data.x_test), strict=True)
        }
    made = made_up(path, inputs, MADE_UP)
    return {given.name: np.stack([sample.inputs[given.name] for sample in made]) for given in inputs}


def _saved_targets(targets: Arrays, count: int, batch: int) -> "dict[str, np.ndarray]":
    """Targets of ``count`` inferences, each ``[count, batch, ...]``, or ``[count, 1, ...]`` where they are of a whole one."""
    import numpy as np

    saved: dict[str, np.ndarray] = {}
    for number, target in enumerate(arrays_of(targets)):
        each = batch if len(target) >= count * batch else 1
        saved[f"target_{number}"] = target[: count * each].reshape(count, each, *target.shape[1:])
    if isinstance(targets, Mapping):
        saved["targets"] = np.array(list(targets))
    return saved


def _warnings(
    names: list[str], runs: "list[list[np.ndarray]]", where: str, *, made_up: bool
) -> Iterator[str]:
    """What the samples cannot show: outputs that are NaN or infinite, or that never change.

    Raises:
        InputError: no sample has an output that holds a number.
    """
    import numpy as np

    from edgepack.onnxfile.sampling import constant_outputs, is_finite

    kind = "made-up sample" if made_up else "sample"
    broken = [name for index, name in enumerate(names) if not all(is_finite(run[index]) for run in runs)]
    if not any(np.isfinite(output).any() for run in runs for output in run):
        raise InputError(
            f"the model's outputs are NaN, infinite or empty for every {kind}: {', '.join(names)}",
            where=where,
            why="a release is tested by comparing its outputs on the board with these",
            next=_OWN if made_up else None,
        )
    if broken:
        yield f"output {', '.join(broken)} holds NaN or infinity for a {kind}: these values are only compared by kind"
    if constant := constant_outputs(names, runs):
        yield f"output {', '.join(constant)} is the same for every {kind}: parity and the test on the board show little of it"
