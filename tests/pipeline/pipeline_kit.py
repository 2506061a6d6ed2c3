"""The pipeline with stages that record their requests instead of working."""

import json
from dataclasses import dataclass, field

from edgepack.agent.results import BenchRaw
from edgepack.config.plan import make_plan
from edgepack.engine.runner import Runner
from edgepack.engine.stage import Output, StageResult
from edgepack.engine.store import Store
from edgepack.measuring.accuracy import BoardAnswers
from edgepack.measuring.measurement import Measurement
from edgepack.measuring.stats import BoardState
from edgepack.pipeline.begin import begin
from edgepack.pipeline.figures import (
    CompileFigures,
    EvaluateFigures,
    RobustnessFigures,
    SourceFigures,
    StepFigures,
)
from edgepack.pipeline.pipeline import STAGES, Pipeline
from edgepack.pipeline.stages.bench import BenchFigures
from edgepack.pipeline.stages.deploy import DeployFigures
from edgepack.pipeline.stages.export import ExportFigures
from edgepack.pipeline.stages.package import PackageFigures
from edgepack.pipeline.stages.recall import RecallFigures
from edgepack.pipeline.stages.tune import TuneFigures
from edgepack.pipeline.trace import RunEnded, Trace
from edgepack.remote.boards import DeviceIdentity
from edgepack.reporting.fold import fold
from edgepack.spec import Input, Tensor

RECIPE = """\
edgepack: 1
name: tiny
model:
  source: edgepack.zoo.digits:network
  train: {epochs: 1}
  inputs:
    - {name: image, shape: [1, 1, 8, 8]}
data:
  source: edgepack.zoo.digits:splits
compress:
  - {method: prune-channels, ratio: 0.5}
  - {method: quantize-static, samples: 8}
tune: {trials: 8, seed: 3}
targets:
  - {target: rpi4, device: pi}
  - {target: arm64}
"""

INPUTS = (Input(name="image", shape=(1, 1, 8, 8)),)
FACTS = {"parameters": 4, "macs": 8, "size": 10, "score": 0.5}
TENSOR = Tensor(name="image", shape=(1, 1, 8, 8), dtype="float32")


def measurement():
    raw = BenchRaw.model_construct(
        samples_ns=tuple(range(1000, 1100)), threads=1, warmup=1, load_ms=1.0, first_ms=1.0, peak_rss_kib=1
    )
    return Measurement.of(raw, device="cpu", emulated=False, before=BoardState(), after=BoardState())


FIGURES = {
    "TrainStage": SourceFigures(level="torch", inputs=INPUTS, **FACTS),
    "LoadStage": SourceFigures(level="torch", inputs=INPUTS, **FACTS),
    "CompressTorchStage": StepFigures(level="torch", metrics={"macs": [2, 1]}, **FACTS),
    "CompressOnnxStage": StepFigures(level="onnx", metrics={}, **FACTS),
    "ExportStage": ExportFigures(torch_parity=0.0),
    "RobustnessStage": RobustnessFigures(of="source", score=0.5, severities=(1,), corruptions={}),
    "EvaluateStage": EvaluateFigures(samples=2, classes=(), vocabulary=(), **FACTS),
    "TuneStage": TuneFigures(
        trials=8, new_trials=8, failed=0, seconds=1.0, stopped="trials", tuned_share=0.5, predicted_ms=1.0,
        untuned_ms=2.0, noise_ms=0.1, curve=(), kernels=(),
    ),
    "RecallStage": RecallFigures(has_records=True),
    "CompileStage": CompileFigures(
        kernels=(), inputs=(TENSOR,), outputs=(TENSOR,), constants=(), executor="vm", runtime=("libtvm_runtime.so",)
    ),
    "PackageStage": PackageFigures(digest="d"),
    "DeployStage": DeployFigures(digest="d", changed=True, bytes_sent=1),
    "BenchStage": BenchFigures(
        measurement=measurement(), answers=BoardAnswers(samples=2, score=0.5, parity=0.0)
    ),
}  # fmt: skip
MADE = {
    "TrainStage": {"checkpoint": "checkpoint"}, "LoadStage": {"checkpoint": "checkpoint"},
    "CompressTorchStage": {"checkpoint": "checkpoint"}, "ExportStage": {"onnx": "onnx"},
    "CompressOnnxStage": {"onnx": "onnx"}, "RobustnessStage": {}, "EvaluateStage": {"samples": "samples"},
    "TuneStage": {"workload.json": "tuning-records", "tuning_record.json": "tuning-records"},
    "RecallStage": {"workload.json": "tuning-records", "tuning_record.json": "tuning-records"},
    "CompileStage": {"model": "compiled-model", "calls": "kernels"}, "PackageStage": {"bundle": "bundle"}, "DeployStage": {},
    "BenchStage": {"measurement": "measurement"},
}  # fmt: skip


@dataclass
class Boards:
    port: int | None = None
    emulated: set[str] = field(default_factory=set)
    virtual: set[str] = field(default_factory=set)

    def identify(self, name):
        emulated, virtual = name in self.emulated, name in self.virtual
        return DeviceIdentity(name, f"host-of-{name}", self.port, emulated, virtual=virtual)


class Line:
    """Runs of one recipe with one store; ``calls`` has the work of the last run by stage."""

    def __init__(self, folder, monkeypatch):
        self.path = folder / "recipe.yaml"
        self.store = Store(folder / "store")
        self.boards = Boards()
        self.fail = {}
        self.calls = {}
        self.trace = Trace()
        for stage in STAGES:
            monkeypatch.setattr(stage, "run", self._fake(type(stage).__name__), raising=False)

    def _fake(self, name):
        def run(work):
            self.calls.setdefault(name, []).append(work)
            for key in (name, (name, target_of(work)), (name, getattr(work.spec, "device", None))):
                if key in self.fail:
                    raise self.fail[key]
            asked = work.spec.model_dump(mode="json"), {r: p.read_text() for r, p in work.inputs.items()}
            files = {}
            made = MADE[name]
            if name == "CompileStage" and work.spec.target.gpu:
                made = {**made, "kernels": "kernel-sources"}
            for role, kind in made.items():
                path = work.scratch / role
                path.write_text(json.dumps([name, role, asked]))
                files[role] = Output(path, kind, role)
            return StageResult(FIGURES[name], files)

        return run

    def __call__(self, text=RECIPE, *, strategy=None, fresh=(), **options):
        self.calls.clear()
        self.path.write_text(text)
        plan = make_plan(self.path)
        self.trace = Trace()
        runner = Runner("tiny", self.store, self.trace, fresh)
        until = options.setdefault("until", "bench")
        self.trace(begin(plan, self.boards, until))
        self.results = Pipeline(plan, runner, self.boards, **options).run(strategy)
        self.trace(RunEnded(seconds=1.0))
        return fold(self.trace.events)

    def count(self):
        return {name.removesuffix("Stage"): len(works) for name, works in self.calls.items()}


def target_of(work):
    """The target of the work, if any."""
    spec = work.spec
    target = getattr(spec, "target", None) or getattr(getattr(spec, "contents", None), "target", None)
    return target.name if target is not None else None


def statuses(report):
    return {(s.stage, s.target, s.candidate): s.status for s in report.stages}
