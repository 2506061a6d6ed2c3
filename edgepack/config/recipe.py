"""Recipes. They are frozen after parsing; reading one does not need torch or TVM."""

from typing import Literal

from pydantic import Field

from edgepack.compression.registry import CompressStep
from edgepack.config.gates import Gates
from edgepack.spec import (
    BuiltInLoss,
    BuiltInMetric,
    Data,
    Filled,
    Metric,
    Model,
    Name,
    Reference,
    Robustness,
    Seed,
    Spec,
    Version,
)

SCHEMA_VERSION = 1


class Tune(Spec):
    """Budget of on-board tuning, per target and model; it stops at the first limit, or when nothing improves any more."""

    trials: int = Field(
        default=0,
        ge=0,
        description="Measured candidates in total; 0 disables tuning, or the limit if minutes is set.",
    )
    minutes: float | None = Field(
        default=None, gt=0, description="Time limit in minutes, even if trials are left."
    )
    patience: int = Field(
        default=3,
        ge=0,
        description="Stop searching a kernel after this many batches without a gain beyond noise; "
        "0 uses the whole budget.",
    )
    seed: Seed = Field(default=0, description="Seed of the search.")


class Bench(Spec):
    """Settings of the measurement on the board."""

    runs: int = Field(
        default=100,
        ge=2,
        description="Measured inferences: at least these, and as many as fit into a second, up to 10,000; "
        "at most 30 on an emulated board, 3 on an emulated GPU.",
    )
    warmup: int = Field(
        default=10,
        ge=0,
        description="Untimed warm-up inferences, at least; at most 3 on an emulated board, none on an emulated GPU.",
    )
    threads: int = Field(default=1, ge=1, le=256, description="Threads per inference.")
    accuracy_samples: int | None = Field(
        default=None,
        ge=1,
        description="Test samples to run on the board; default: all. On an emulated GPU an inference may take seconds: give a number.",
    )
    baseline: bool = Field(default=True, description="Also measure the uncompressed model on the board.")
    profile: bool = Field(
        default=False,
        description="Also measure each kernel on the board, as `edgepack profile` does, of models with their own runtime.",
    )


class TargetEntry(Spec):
    """One target of the run and its devices; without a device, the run stops at the bundle."""

    target: Filled = Field(description="Name of a target; `edgepack targets` lists them.")
    device: Filled | None = Field(
        default=None, description="Name of a device in devices.yaml, or virtual:KIND."
    )
    devices: tuple[Filled, ...] = Field(
        default=(),
        description="Several devices, instead of device: kernels are tuned on the first, the release is deployed to all.",
    )
    tune: Tune | None = Field(default=None, description="Overrides the recipe's tune block.")

    @property
    def boards(self) -> tuple[str, ...]:
        """The names of the devices, in order."""
        return self.devices if self.device is None else (self.device, *self.devices)


class Recipe(Spec):
    """The model to build, its targets, and the requirements for a release."""

    edgepack: Literal[1] = Field(description="Version of the recipe schema.")
    name: Name = Field(description="Name of the bundle, and of its folder on the board.")
    version: Version = Field(
        default="0.1.0", description="The release's version; part of the bundle's file name."
    )
    model: Model = Field(description="The source of the model.")
    data: Data | None = Field(
        default=None, description="Labelled samples for training, calibration and accuracy."
    )
    samples: Filled | None = Field(
        default=None,
        description="Inputs without labels: an .npz file with one array per input, by its name; relative to the recipe.",
    )
    metric: BuiltInMetric | Reference | None = Field(
        default=None,
        description="How outputs are scored; default: accuracy for class numbers, mse for other targets. "
        "module:callable is called with the outputs and the targets.",
    )
    higher_is_better: bool | None = Field(
        default=None, description="Whether a larger value is better; needed with a metric of one's own."
    )
    loss: BuiltInLoss | Reference | None = Field(
        default=None,
        description="What is minimised in training; default: cross-entropy for class numbers, mse for other targets. "
        "module:callable is called with the outputs and the targets.",
    )
    robustness: Robustness | None = Field(
        default=None, description="Also measure the metric under corruption, after every step."
    )
    compress: tuple[CompressStep, ...] = Field(
        default=(),
        description="Compression steps, in order: first those on the torch module, then those on ONNX.",
    )
    tune: Tune = Field(default=Tune(), description="Tuning budget for each target.")
    bench: Bench = Field(default=Bench(), description="How latency is measured on the board.")
    gates: Gates = Field(default=Gates(), description="Requirements for the release.")
    targets: tuple[TargetEntry, ...] = Field(
        min_length=1, description="Targets to build for, with their devices."
    )

    @property
    def scored_by(self) -> Metric:
        """The metric."""
        return Metric(name=self.metric, higher_is_better=self.higher_is_better)
