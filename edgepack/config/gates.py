"""Gates: requirements for a release, and for the model after each step."""

from pydantic import Field

from edgepack.spec import Spec


class StepGates(Spec):
    """Requirements for a model, compared with the source model. A value equal to its limit passes."""

    metric_drop: float | None = Field(
        default=None,
        ge=0,
        description="Largest accepted worsening of the metric, in its unit (accuracy: 0..1).",
    )
    metric_drop_relative: float | None = Field(
        default=None, ge=0, description="The same as a share of the source's metric."
    )
    metric_limit: float | None = Field(
        default=None,
        description="Worst accepted value of the metric: the smallest if higher is better, else the largest.",
    )
    robustness_drop: float | None = Field(
        default=None,
        ge=0,
        description="Largest accepted worsening of the metric under corruption, in its unit.",
    )
    macs: float | None = Field(default=None, gt=0, description="Most accepted MACs of one inference.")
    macs_ratio: float | None = Field(default=None, gt=0, description="The same as a share of the source's.")
    parameters: float | None = Field(default=None, gt=0, description="Most accepted parameters.")
    nonzeros: float | None = Field(
        default=None, gt=0, description="Most accepted parameters other than zero."
    )
    size_kib: float | None = Field(
        default=None,
        gt=0,
        description="Largest accepted weights or .onnx file, of a release the compiled model, KiB.",
    )
    size_ratio: float | None = Field(
        default=None, gt=0, description="The same as a share of the source's, of a release the baseline's."
    )
    weights_kib: float | None = Field(
        default=None, gt=0, description="Largest accepted size of the weights in the bundle, KiB."
    )
    weights_ratio: float | None = Field(
        default=None, gt=0, description="The same as a share of the source's, of a release the baseline's."
    )
    weights_memory_kib: float | None = Field(
        default=None, gt=0, description="Largest accepted size of the weights in memory, KiB."
    )
    weights_memory_ratio: float | None = Field(
        default=None, gt=0, description="The same as a share of the source's, of a release the baseline's."
    )


class Gates(StepGates):
    """Requirements for a release; if a gate fails, the exit code is 3. Latency and memory gates skip emulated devices."""

    accuracy_drop: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Largest accepted drop of the accuracy on the board below torch fp32 (0..1).",
    )
    accuracy_min: float | None = Field(
        default=None, ge=0, le=1, description="Smallest accepted accuracy on the board (0..1)."
    )
    parity: float | None = Field(
        default=None,
        gt=0,
        description="Largest accepted relative difference between outputs on the board and in onnxruntime; "
        "larger for a release in int8 or float16: see below.",
    )
    p50_ms: float | None = Field(default=None, gt=0, description="Largest accepted median latency, ms.")
    p90_ms: float | None = Field(
        default=None, gt=0, description="Largest accepted 90th percentile of latency, ms."
    )
    p99_ms: float | None = Field(
        default=None, gt=0, description="Largest accepted 99th percentile of latency, ms."
    )
    latency_ratio: float | None = Field(
        default=None, gt=0, description="Largest accepted median latency as a share of the baseline's."
    )
    bundle_kib: float | None = Field(default=None, gt=0, description="Largest accepted bundle size, KiB.")
    peak_rss_mib: float | None = Field(
        default=None, gt=0, description="Largest accepted peak resident set on the board, MiB."
    )
    peak_rss_ratio: float | None = Field(
        default=None, gt=0, description="The same as a share of the baseline's."
    )
    each_step: StepGates | None = Field(
        default=None, description="Requirements for the model after every compression step."
    )
    steps: dict[str, StepGates] = Field(
        default_factory=dict,
        description="Requirements after single steps, by their names; each key replaces that of each_step.",
    )

    def after(self, label: str) -> StepGates:
        """The requirements for the model after the step of this name."""
        common = {} if self.each_step is None else self.each_step.model_dump(exclude_none=True)
        own = self.steps[label].model_dump(exclude_none=True) if label in self.steps else {}
        return StepGates(**{**common, **own})


ON_BOARD = (
    "accuracy_drop", "accuracy_min", "metric_drop", "metric_drop_relative", "metric_limit", "parity", "p50_ms", "p90_ms",
    "p99_ms", "latency_ratio", "peak_rss_mib", "peak_rss_ratio",
)  # fmt: skip
"""Gates of a release on figures that are measured on a board."""

OF_METRIC = ("accuracy_drop", "accuracy_min", "metric_drop", "metric_drop_relative", "metric_limit")
"""Gates on the metric."""
