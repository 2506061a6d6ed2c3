"""Sample reports: a successful run, and one with many failures."""

import random

from edgepack.agent.results import BenchRaw
from edgepack.config.recipe import Gates
from edgepack.engine.artifact import Artifact
from edgepack.engine.events import ErrorRecord, Scope
from edgepack.errors import ConfigError, Problem, UnreachableError
from edgepack.measuring.measurement import Measurement
from edgepack.measuring.stats import BoardState
from edgepack.pipeline.stages.tune import TunedKernel
from edgepack.pipeline.trace import Host, RecipeRef
from edgepack.reporting.builder import ReportBuilder
from edgepack.reporting.document import ModelRow, Outcome, Report, TuningRow
from edgepack.spec import ModelFigures, TrainingRecord
from edgepack.tuning.result import CurvePoint

GATES = Gates(accuracy_drop=0.01, parity=1e-4, p90_ms=0.5, bundle_kib=6000, peak_rss_mib=64)
METRICS = {
    "prune-channels": {
        "macs": [4_722_048, 1_180_512],
        "layers": {f"block.{i}.conv": [64 + i, 32 + i] for i in range(9)},
        "kept_whole": {"classifier": "its channels are the model's output"},
        "accuracy": {"before": 0.9861, "pruned": 0.9167, "fine_tune": 0.9833},
    },
    "quantize-static": {"samples": 256, "per_channel": True, "note": "a|b *c*", "scale": None, "skipped": []},
}
STATE = BoardState(
    governor="performance", frequency_khz=(1_500_000,) * 4, temperature_c=48.3, throttled=False
)


def raw(samples_ns, **figures) -> BenchRaw:
    """Results of the agent, without the board's state."""
    known = {"threads": 1, "warmup": 0, "load_ms": 0.0, "first_ms": 0.0, "peak_rss_kib": 0}
    return BenchRaw.model_construct(samples_ns=tuple(samples_ns), **(known | figures))


def measurement(centre_ms: float, *, device: str, emulated: bool = False, runs: int = 300) -> Measurement:
    dice = random.Random(device + str(centre_ms))
    samples = [
        int(centre_ms * 1e6 * (1 + abs(dice.gauss(0, 0.02)) + (dice.random() < 0.03) * 0.4))
        for _ in range(runs)
    ]
    return Measurement.of(
        raw(samples, warmup=10, load_ms=centre_ms * 21.3, first_ms=centre_ms * 3.1, peak_rss_kib=18_432),
        device=device,
        emulated=emulated,
        before=BoardState() if emulated else STATE,
        after=BoardState() if emulated else STATE.model_copy(update={"temperature_c": 51.9}),
    )


ORIGINS = {
    "source": {
        "seeds": {"train.seed": 11},
        "trainings": (
            TrainingRecord(epochs=9, kept=7, loss=0.0625, seed=11, diverged="the loss became nan in epoch 8"),
        ),
    },
    "prune-channels": {
        "seeds": {"fine_tune.seed": 3},
        "trainings": (TrainingRecord(epochs=1, kept=1, loss=0.125, seed=3),),
    },
}


def new_builder() -> ReportBuilder:
    return ReportBuilder(
        run_id="20261122-111500-digits",
        started="2026-11-22T11:15:00+00:00",
        recipe=RecipeRef(name="digits", version="0.1.0", digest="3f" * 32, path="recipes/digits.yaml"),
        tools={"edgepack": "0.1.0", "apache-tvm": "0.27.0.post1", "torch": "2.13.0"},
        host=Host(system="Linux 6.1", machine="x86_64", cores=2, python="3.11.7", cpu="A CPU @ 2.50GHz"),
    )


def failed(
    builder: ReportBuilder, error, *, target: str | None = None, stage: str = "", device: str | None = None
) -> None:
    """Add an error; without a target it belongs to the whole run."""
    scope = Scope(stage=stage, label=stage, target=target, device=device) if target else None
    builder.add_error(ErrorRecord.of(error, scope))


def good() -> Report:
    builder = new_builder()
    clock = 0.0

    def stage(name, seconds, status="done", *, why=None, target=None, candidate=None, artifacts=()):
        nonlocal clock
        builder.add_outcome(
            Outcome(
                stage=name, target=target, candidate=candidate, status=status, seconds=seconds, started=clock, why=why,
                artifacts=artifacts,
            )
        )  # fmt: skip
        clock += seconds

    stage("train", 0.01, "cached")
    stage("prune-channels", 12.4, why="changed: compress.0.sparsity")
    stage("quantize-static", 1.9, why="its input prune-channels changed")
    for figures in (
        ModelFigures(
            stage="source",
            parameters=130_890,
            macs=4_722_048,
            size=526_336,
            score=0.9861,
            weights_size=449_123,
            weights_memory=523_560,
        ),
        ModelFigures(
            stage="prune-channels",
            parameters=34_122,
            macs=1_180_512,
            size=139_264,
            score=0.9833,
            weights_size=117_011,
            weights_memory=136_488,
        ),
        ModelFigures(
            stage="quantize-static",
            parameters=34_122,
            macs=1_180_512,
            size=41_216,
            score=0.9806,
            weights_size=31_007,
            weights_memory=136_489,
            encodings={"int8": 33_900, "int32": 444, "dense": 96},
        ),
    ):
        row = ModelRow(**figures.model_dump(), metrics=METRICS.get(figures.stage, {}))
        builder.add_compression(row.model_copy(update=ORIGINS.get(figures.stage, {})))
    for target, device, emulated in (("x86-64-v3", "loopback", False), ("rpi4", "virtual-rpi4", True)):
        for candidate, milli, scale in (("baseline", 0.412, 1.0), ("release", 0.105, 0.26)):
            slow = 23.7 if emulated else 1.0
            builder.add_row(
                target,
                candidate,
                device=device,
                emulated=emulated,
                onnx_size=int(526_336 * (1 if candidate == "baseline" else 0.0783)),
                compiled_size=int(612_000 * scale),
                weights_size=int(449_100 * scale * scale),
                weights_memory=int(523_561 * scale),
                nonzeros=int(120_123 * scale),
                bundle_size=int(2_412_000 + 540_000 * scale),
                bundle_digest="ab" * 32,
                parameters=int(130_890 * scale),
                macs=int(4_722_048 * scale),
                score_onnxruntime=0.9861 if candidate == "baseline" else 0.9806,
                score_board=0.9861 if candidate == "baseline" else 0.9806,
                board_samples=360,
                parity=2.1e-07 if candidate == "baseline" else 3.4e-06,
                measurement=measurement(milli * slow, device=device, emulated=emulated),
            )
            if candidate == "baseline":
                builder.add_row(target, candidate, device=device, score_torch=0.9861)
            stage(
                "tune",
                42.0 if candidate == "release" else 30.2,
                target=target,
                candidate=candidate,
                why="first run",
            )
            stage("compile", 6.1, target=target, candidate=candidate, why="its input tune changed")
            blob = Artifact(
                kind="bundle", name=f"digits-{target}.edgepack", sha256="ab" * 32, size=9, made_by="package"
            )
            stage("package", 0.4, target=target, candidate=candidate, artifacts=(blob,))
            stage("bench", 3.2, target=target, candidate=candidate, why="a measurement is never cached")
        why = "the int8 model exists as ONNX only"
        builder.add_missing(target, "release", why, "score_torch", "macs", device=device)
        points = [
            CurvePoint(seconds=t * 0.4, trials=t, predicted_ms=0.1 + 0.9 / (1 + t / 9))
            for t in range(0, 128, 8)
        ]
        kernels = [
            TunedKernel(
                name="fused_conv2d_relu",
                tuned=True,
                best_ms=0.031,
                share=0.42,
                trials=40,
                untuned_ms=0.04,
                noise=0.02,
                ended="budget",
            ),
            TunedKernel(name="fused_conv2d1_relu", tuned=True, best_ms=0.022, share=0.31),
            TunedKernel(name="fused_dense_add", tuned=True, best_ms=0.009, share=0.12),
            TunedKernel(
                name="max_pool2d",
                tuned=False,
                best_ms=0.006,
                share=0.09,
                trials=8,
                untuned_ms=0.006,
                noise=0.015,
                ended="settled",
            ),
            TunedKernel(name="softmax", tuned=False, share=0.06, ended="small"),
        ]
        builder.add_tuning(
            TuningRow(
                target=target, candidate="release", trials=120, seconds=48.0, tuned_share=0.85, stopped="settled",
                untuned_ms=0.0912, predicted_ms=0.0738, noise_ms=0.0017, curve=tuple(points),
                kernels=tuple(kernels), emulated=emulated,
            )
        )  # fmt: skip
    builder.check_gates(GATES)
    return frozen(builder.build())


HOSTILE = """<script>alert("x")</script>|`*_[a](b)\x00\x1b[31m & 'quoted' </style></svg>"""


def bad() -> Report:
    """One target unreachable, a drifting measurement, a failed gate, hostile text in every text field."""
    builder = new_builder()
    builder.add_row("x86-64-v3", "baseline", device=HOSTILE, score_torch=0.99, onnx_size=526_336)
    samples = [int(1e6 * (1 + i / 300)) for i in range(60)]
    throttled = STATE.model_copy(
        update={"throttled": True, "frequency_khz": (600_000,) * 4, "governor": HOSTILE}
    )
    builder.add_row(
        "x86-64-v3",
        "release",
        device=HOSTILE,
        score_board=0.61,
        board_samples=360,
        measurement=Measurement.of(
            raw(samples, threads=2, load_ms=1.0, first_ms=2.0, peak_rss_kib=70_000),
            device=HOSTILE, emulated=False, before=STATE, after=throttled,
        ),
    )  # fmt: skip
    builder.add_missing("x86-64-v3", "release", HOSTILE, "bundle_size", "parity", device=HOSTILE)
    builder.add_outcome(Outcome(stage="train", status="cached"))
    builder.add_outcome(
        Outcome(stage=HOSTILE, status="failed", seconds=3.5, why=HOSTILE, target="rpi4", candidate="release")
    )
    builder.add_outcome(
        Outcome(stage="bench", status="skipped", why="deploy failed", target="rpi4", candidate="release")
    )
    failed(
        builder,
        UnreachableError(HOSTILE, where="pi@shelf-3", why="connection refused", state="nothing was sent", next="ping shelf-3"),
        stage="deploy",
        target="rpi4",
    )  # fmt: skip
    failed(builder, ConfigError([Problem("a.yaml", 3, 7, HOSTILE)]), stage="check", target="rpi4")
    builder.check_gates(GATES)
    return frozen(builder.build())


def empty() -> Report:
    return frozen(new_builder().build())


def frozen(report: Report) -> Report:
    """The report as if it had taken a fixed time."""
    return report.model_copy(update={"seconds": 176.4})
