"""A recipe: what to build. Frozen after parsing; torch and tvm are not needed to read one."""

from typing import Literal

from pydantic import Field

from edgepack.compression.registry import CompressStep
from edgepack.spec import Data, Filled, Model, Name, Spec, Version

SCHEMA_VERSION = 1


class Gates(Spec):
    """What a release must meet; a failed gate exits with 3. Latency gates skip emulated devices."""

    accuracy_drop: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Accuracy on the board may be at most this below torch fp32 (0..1).",
    )
    parity: float | None = Field(
        default=None,
        gt=0,
        description="Largest relative difference of the board's outputs from onnxruntime's.",
    )
    p90_ms: float | None = Field(default=None, gt=0, description="Largest 90th percentile of latency, ms.")
    bundle_kib: float | None = Field(default=None, gt=0, description="Largest bundle, KiB.")
    peak_rss_mib: float | None = Field(
        default=None, gt=0, description="Largest resident set on the board, MiB."
    )


class Tune(Spec):
    """Budget of the on-board tuning, per target and model; it stops at whichever comes first, or without gain."""

    trials: int = Field(
        default=0,
        ge=0,
        description="Measured candidates in all; 0 is no limit beside minutes, and no tuning without.",
    )
    minutes: float | None = Field(
        default=None, gt=0, description="Stop after this long, with trials left or not."
    )
    patience: int = Field(
        default=3,
        ge=0,
        description="Leave a kernel after this many batches without a gain beyond noise, and stop when all are left; "
        "0 uses the whole budget.",
    )
    seed: int = Field(default=0, description="Seed of the search.")


class Bench(Spec):
    """How latency is measured on the board."""

    runs: int = Field(default=100, ge=2, description="Measured inferences; at most 30 on an emulated board.")
    warmup: int = Field(
        default=10,
        ge=0,
        description="Inferences before them that do not count; at most 3 on an emulated board.",
    )
    threads: int = Field(default=1, ge=1, description="Threads an inference may use.")
    accuracy_samples: int | None = Field(
        default=None, ge=1, description="Test samples run on the board; all if unset."
    )
    baseline: bool = Field(default=True, description="Measure the uncompressed model on the board too.")


class TargetEntry(Spec):
    """One row of the run: a target, and the devices that stand for it (none: stop at the bundle)."""

    target: Filled = Field(description="A target's name: see edgepack targets.")
    device: Filled | None = Field(default=None, description="A name of devices.yaml, or virtual:KIND.")
    devices: tuple[Filled, ...] = Field(
        default=(),
        description="Several, instead of device: kernels are tuned on the first, the release goes to all.",
    )
    tune: Tune | None = Field(default=None, description="Instead of the recipe's tune block.")

    @property
    def boards(self) -> tuple[str, ...]:
        """The devices by name, in the order they were named."""
        return self.devices if self.device is None else (self.device, *self.devices)


class Recipe(Spec):
    """What to build, for which targets, and what it must meet."""

    edgepack: Literal[1] = Field(description="Version of the recipe schema.")
    name: Name = Field(description="Names the bundle, and its folder on the board.")
    version: Version = Field(
        default="0.1.0", description="The release's version; part of the bundle's file name."
    )
    model: Model = Field(description="Where the model comes from.")
    data: Data | None = Field(default=None, description="Needed for training, calibration and accuracy.")
    compress: tuple[CompressStep, ...] = Field(
        default=(),
        description="Compression steps, in order: first those on the torch module, then those on ONNX.",
    )
    tune: Tune = Field(default=Tune(), description="Budget of the tuning for each target.")
    bench: Bench = Field(default=Bench(), description="How the release is measured.")
    gates: Gates = Field(default=Gates(), description="What the release must meet.")
    targets: tuple[TargetEntry, ...] = Field(
        min_length=1, description="What to build for, and on which devices."
    )
