"""Data types that several rooms share, frozen and strict: models, samples, training, encodings.

Imports: base, errors.
"""

from edgepack.spec.base import (
    MAY_BE_EMPTY,
    PATTERNS,
    Count,
    Filled,
    Finite,
    Glibc,
    GpuArch,
    Name,
    Reference,
    Seed,
    Sha256,
    Share,
    Spec,
    TwoNumbers,
    Version,
)
from edgepack.spec.data import Data, Idx, Images, Preprocess, Text
from edgepack.spec.document import JsonDocument, SchemaVersionError
from edgepack.spec.figures import ModelFacts, ModelFigures, TrainingRecord
from edgepack.spec.model import DType, Input, Model, RecipeInput, Tensor, Train
from edgepack.spec.robustness import Robustness
from edgepack.spec.task import BuiltInLoss, BuiltInMetric, Metric, Score, Scored

__all__ = [
    "MAY_BE_EMPTY",
    "PATTERNS",
    "BuiltInLoss",
    "BuiltInMetric",
    "Count",
    "DType",
    "Data",
    "Filled",
    "Finite",
    "Glibc",
    "GpuArch",
    "Idx",
    "Images",
    "Input",
    "JsonDocument",
    "Metric",
    "Model",
    "ModelFacts",
    "ModelFigures",
    "Name",
    "Preprocess",
    "RecipeInput",
    "Reference",
    "Robustness",
    "SchemaVersionError",
    "Score",
    "Scored",
    "Seed",
    "Sha256",
    "Share",
    "Spec",
    "Tensor",
    "Text",
    "Train",
    "TrainingRecord",
    "TwoNumbers",
    "Version",
]
