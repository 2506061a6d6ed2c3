"""``bench``: measure on the board, through the bundle's own agent and runtime."""

from typing import TYPE_CHECKING, Any

from edgepack.config.recipe import Bench
from edgepack.engine.stage import Ingredients, Output, Request, Skip, StageResult, Work
from edgepack.measuring.accuracy import BoardAccuracy
from edgepack.measuring.measurement import Measurement
from edgepack.pipeline.bundle_on_board import loaded_bundle, measure_latency
from edgepack.pipeline.contract import NO_DEVICE, DeviceStage
from edgepack.pipeline.state import DeviceRun, Resources
from edgepack.spec import Spec

if TYPE_CHECKING:
    import numpy as np

    from edgepack.agent.protocol import BoardModel


_EMULATED_WARMUP, _EMULATED_RUNS = 3, 30  # what an emulator takes says nothing: enough to show that it runs


class BenchSpec(Spec):
    """Which board, and how to measure."""

    device: str
    host: str
    port: int | None
    emulated: bool
    bench: Bench


class BenchFigures(Spec):
    """Latency and memory, and what the model answers there."""

    measurement: Measurement
    answers: BoardAccuracy


class BenchStage(DeviceStage[BenchSpec, BenchFigures]):
    """Figures from the board."""

    name = "bench"
    figures = BenchFigures
    derived = ("inputs.samples",)

    def ingredients(self, spec: BenchSpec) -> Ingredients:
        """What measures; what merely moves bytes does not count."""
        del spec
        return Ingredients(
            ("paramiko",), ("agent", "measuring", "pipeline/bundle_on_board.py", "pipeline/stages/bench.py")
        )

    def request(self, at: DeviceRun) -> Request[BenchSpec] | Skip:
        """Each candidate is measured."""
        if at.device is None:
            return Skip(NO_DEVICE)
        bench = at.build.model.plan.recipe.bench
        if at.device.emulated:
            fewer = {"warmup": min(bench.warmup, _EMULATED_WARMUP), "runs": min(bench.runs, _EMULATED_RUNS)}
            bench = bench.model_copy(update=fewer)
        spec = BenchSpec(
            device=at.device.name,
            host=at.device.host,
            port=at.device.port,
            emulated=at.device.emulated,
            bench=bench.model_copy(update={"baseline": True}),  # who is measured shapes no figure
        )
        files = {"bundle": at.build.artifacts["bundle"], "samples": at.build.model.artifacts["samples"]}
        return Request(spec, files)

    def run(self, work: Work[BenchSpec, Resources]) -> StageResult[BenchFigures]:
        """Latency, accuracy and parity, from a scratch folder that is gone afterwards."""
        import numpy as np

        spec, boards = work.spec, work.resources.boards
        with np.load(work.inputs["samples"], allow_pickle=False) as archive:
            samples = {key: archive[key] for key in archive.files}
        with loaded_bundle(boards, spec.device, work.inputs["bundle"], threads=spec.bench.threads) as on:
            work.progress("measuring latency", None)
            first = {name: array[0] for name, array in _inputs(samples, slice(0, 1)).items()}
            measurement = measure_latency(on, first, spec.bench, emulated=spec.emulated)
            work.progress("measuring accuracy", None)
            answers = _answers(on, samples, spec.bench.accuracy_samples)
        path = measurement.save(work.scratch / "measurement.json")
        return StageResult(
            BenchFigures(measurement=measurement, answers=answers),
            {"measurement": Output(path, "measurement", "measurement.json")},
        )


def _inputs(samples: "dict[str, np.ndarray]", rows: Any) -> "dict[str, np.ndarray]":
    return {key: array[rows] for key, array in samples.items() if key.startswith("input_")}


def _answers(on: "BoardModel", samples: "dict[str, np.ndarray]", wanted: int | None) -> BoardAccuracy:
    """Run test samples, evenly spaced over the split, and hold the outputs against onnxruntime's."""
    import numpy as np

    from edgepack.measuring.measure import evaluate

    count = len(samples["output_0"])
    rows = np.linspace(0, count - 1, min(wanted or count, count)).astype(int)
    return evaluate(
        on,
        _inputs(samples, rows),
        labels=samples["labels"][rows].reshape(-1) if "labels" in samples else None,
        reference=[samples[name][rows] for name in samples if name.startswith("output_")],
    )
