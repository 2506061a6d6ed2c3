"""``bench``: measure on the board, through the bundle's own agent and runtime."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgepack.config.recipe import Bench
from edgepack.engine.stage import Ingredients, Output, Request, Skip, StageResult, Work
from edgepack.errors import InputError
from edgepack.measuring.accuracy import BoardAnswers
from edgepack.measuring.measurement import Measurement
from edgepack.measuring.profile import ModelProfile
from edgepack.pipeline.bundle_on_board import loaded_bundle, measure_latency
from edgepack.pipeline.contract import NO_DEVICE, DeviceStage
from edgepack.pipeline.emulated_gpu import CODE
from edgepack.pipeline.profiling import check_executor, profile_kernels
from edgepack.pipeline.state import DeviceRun, Resources
from edgepack.scoring import Scorer
from edgepack.spec import Metric, Spec

if TYPE_CHECKING:
    import numpy as np

    from edgepack.agent.protocol import BoardModel


# Latency on an emulator is meaningless: enough runs to show that the model works. On an emulated GPU, an inference may
# take seconds. (Warm-up inferences, timed inferences.)
_EMULATED = (3, 30)
_EMULATED_GPU = (0, 3)


class BenchSpec(Spec):
    """The board, and settings of the measurement."""

    device: str
    host: str
    port: int | None
    emulated: bool
    bench: Bench
    emulated_gpu: bool = False
    metric: Metric = Metric()


class BenchFigures(Spec):
    """Latency, memory, score and parity on the board."""

    measurement: Measurement
    answers: BoardAnswers
    profile: ModelProfile | None = Field(
        default=None, description="Its kernels, if the recipe asks for them."
    )
    not_profiled: str | None = Field(default=None, description="Why they cannot be measured.")


class BenchStage(DeviceStage[BenchSpec, BenchFigures]):
    """Measures the bundle on a device."""

    name = "bench"
    figures = BenchFigures
    derived = ("inputs.samples",)

    def ingredients(self, spec: BenchSpec) -> Ingredients:
        """The code that measures; code that only transfers files does not count."""
        own = (
            *("agent", "measuring", "pipeline/bundle_on_board.py", "pipeline/stages/bench.py", "scoring"),
            *("data/sources.py", "data/splits.py", "data/user_code.py", "pipeline/profiling.py"),
        )
        if spec.emulated_gpu:
            return Ingredients(("paramiko", "ziglang"), (*own, *CODE))
        return Ingredients(("paramiko",), own)

    def request(self, at: DeviceRun) -> Request[BenchSpec] | Skip:
        """Every candidate is measured."""
        if at.device is None:
            return Skip(NO_DEVICE)
        bench = at.build.model.plan.recipe.bench
        if at.device.emulated:
            bench = _fewer(bench, gpu=bool(at.kernels))
        spec = BenchSpec(
            device=at.device.name,
            host=at.device.host,
            port=at.device.port,
            emulated=at.device.emulated,
            bench=bench.model_copy(
                update={"baseline": True}
            ),  # the candidate's name does not affect the figures
            emulated_gpu=bool(at.kernels),
            metric=at.build.model.plan.recipe.scored_by,
        )
        files = {role: at.build.artifacts[role] for role in ("bundle", *at.kernels)}
        files["samples"] = at.build.model.artifacts["samples"]
        files |= at.build.model.files.metric
        return Request(spec, files)

    def run(self, work: Work[BenchSpec, Resources]) -> StageResult[BenchFigures]:
        """Measure latency, score and parity in a scratch folder that is removed afterwards."""
        import numpy as np

        spec, boards = work.spec, work.resources.boards
        with np.load(work.inputs["samples"], allow_pickle=False) as archive:
            samples = {key: archive[key] for key in archive.files}
        bundle, kernels = work.inputs["bundle"], work.inputs.get("kernels")
        with loaded_bundle(boards, spec.device, bundle, threads=spec.bench.threads, kernels=kernels) as on:
            work.progress("measuring latency", None)
            first = {name: array[0] for name, array in _inputs(samples, slice(0, 1)).items()}
            measurement = measure_latency(on, first, spec.bench, emulated=spec.emulated)
            profile, why = None, None
            if spec.bench.profile:
                work.progress("measuring kernels", None)
                profile, why = _profile(on, bundle, first, spec)
            work.progress("running the test samples", None)
            scorer = Scorer(spec.metric, work.resources.base)
            answers = _answers(on, samples, spec.bench.accuracy_samples, scorer)
        path = measurement.save(work.scratch / "measurement.json")
        return StageResult(
            BenchFigures(measurement=measurement, answers=answers, profile=profile, not_profiled=why),
            {"measurement": Output(path, "measurement", "measurement.json")},
        )


def _profile(
    on: "BoardModel", bundle: Path, inputs: "dict[str, np.ndarray]", spec: BenchSpec
) -> tuple[ModelProfile | None, str | None]:
    """Measure the kernels; or say why they cannot be measured."""
    from edgepack.remote.staging import unpack_bundle

    with unpack_bundle(bundle) as source:
        try:
            check_executor(source.manifest, bundle.name)
        except InputError as error:
            return None, f"{error.message} ({error.why})"
        listed = source.kernels()
    profile = profile_kernels(on, inputs, listed, source.manifest, spec.bench, emulated=spec.emulated)
    return profile, None


def _fewer(bench: Bench, *, gpu: bool) -> Bench:
    """The settings on an emulated board: a number that the recipe gives is never exceeded."""
    warmup, runs = _EMULATED_GPU if gpu else _EMULATED
    return bench.model_copy(update={"warmup": min(bench.warmup, warmup), "runs": min(bench.runs, runs)})


def _inputs(samples: "dict[str, np.ndarray]", rows: Any) -> "dict[str, np.ndarray]":
    return {key: array[rows] for key, array in samples.items() if key.startswith("input_")}


def _answers(
    on: "BoardModel", samples: "dict[str, np.ndarray]", wanted: int | None, scorer: Scorer
) -> BoardAnswers:
    """Run test samples, evenly spaced over the split, and compare the outputs with the targets and onnxruntime's."""
    import numpy as np

    from edgepack.measuring.measure import evaluate

    count = len(samples["output_0"])
    rows = np.linspace(0, count - 1, min(wanted or count, count)).astype(int)
    return evaluate(
        on,
        _inputs(samples, rows),
        scorer=scorer,
        targets=_targets(samples, rows),
        reference=[samples[name][rows] for name in samples if name.startswith("output_")],
    )


def _targets(samples: "dict[str, np.ndarray]", rows: Any) -> Any:
    """The targets of these rows as the metric takes them: one array, or several by name; None if there are none."""
    found = [samples[name][rows] for name in samples if name.startswith("target_")]
    flat = [array.reshape(-1, *array.shape[2:]) for array in found]
    if "targets" in samples:
        return dict(zip(map(str, samples["targets"]), flat, strict=True))
    return flat[0] if flat else None
