"""The options of static quantization."""

from typing import Literal

from pydantic import Field

from edgepack.compression.method import Step
from edgepack.compression.selection import Skip
from edgepack.spec import Seed, Spec

Precision = Literal["int16", "fp16", "fp32"]


class MixedPrecision(Spec):
    """Keep the most sensitive layers in a higher precision."""

    drop: float = Field(
        default=0.001,
        ge=0,
        description="Layers are kept in a higher precision until the metric on the calibration samples is at most this "
        "much worse than before quantization; without targets, until that share of the outputs' energy is noise.",
    )
    precisions: tuple[Precision, ...] = Field(
        default=("int16", "fp32"),
        description="The higher precisions, in order: activations of 16 bits; weights in float16; float32.",
    )


class QuantizeStatic(Step):
    """Quantize weights per channel and activations per tensor to int8, calibrated on samples."""

    method: Literal["quantize-static"]
    samples: int = Field(
        default=256,
        ge=1,
        description="Calibration samples, from the training split, or from the recipe's samples.",
    )
    data_free: bool = Field(
        default=False,
        description="Calibrate on inputs made from the statistics of batch normalisation, for want of samples.",
    )
    calibration: Literal["minmax", "entropy", "percentile", "mse"] = Field(
        default="minmax", description="How the range of an activation is determined from the samples."
    )
    percentile: float = Field(
        default=99.99, gt=50, le=100, description="Values within the range, for calibration: percentile."
    )
    activations: Literal["uint8", "int8", "uint16", "int16"] = Field(
        default="uint8",
        description="Activations as asymmetric uint8 or uint16, or as symmetric int8 or int16.",
    )
    weights: Literal["int8", "uint8"] = Field(
        default="int8",
        description="Weights as symmetric int8, or as asymmetric uint8 with a zero point per channel.",
    )
    weight_scales: Literal["minmax", "mse"] = Field(
        default="minmax",
        description="Ranges contain all weights, or minimise the squared error of the weights.",
    )
    per_channel: bool = Field(default=True, description="Use one weight scale per output channel.")
    equalise: bool = Field(
        default=False, description="First scale channels so that neighbouring layers have similar ranges."
    )
    rounding: Literal["nearest", "learned", "compensated"] = Field(
        default="nearest",
        description="Round weights to the nearest, learn whether up or down from the layer's outputs (AdaRound), or round "
        "the inputs of a layer one after the other, adjusting the rest (GPTQ).",
    )
    iterations: int = Field(
        default=1000, ge=1, description="Steps of the optimizer for learned rounding, per layer."
    )
    correct_bias: bool = Field(
        default=False, description="Change biases so that the means of the layers' outputs stay."
    )
    mixed: MixedPrecision | None = Field(
        default=None, description="Keep the most sensitive layers in a higher precision."
    )
    skip: Skip = Field(
        default=(),
        description="Layers that stay float: names of layers or nodes, with * and ? as wildcards; auto, those that add more "
        "than ten times the noise of the median layer; or a number, those below this signal-to-noise ratio in dB.",
    )
    seed: Seed = Field(default=0, description="Seed for choosing the calibration samples.")
