"""The stages that work on the model: train or load, compress, export, evaluate."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.compress import METHODS, CompressStep
from edgepack.recipe import Data, Input, Model
from edgepack.stage import Made, Output, Stage, Work

if TYPE_CHECKING:
    from edgepack.data import Splits

_TORCH = ("torch", "numpy", "scikit-learn", "safetensors")
_ONNX = ("onnx", "onnxruntime", "numpy", "scikit-learn")


def _data(work: Work) -> "Splits | None":
    """The recipe's data, read afresh: its digest is part of the key, its arrays need not be stored."""
    from edgepack.data import load_data

    if work.spec["data"] is None:
        return None
    return load_data(Data.model_validate_json(json.dumps(work.spec["data"])), work.resources["base"])


def _model(work: Work) -> Model:
    return Model.model_validate_json(json.dumps(work.spec["model"]))


def _accuracy(work: Work, module: Any) -> float | None:
    from edgepack.compress.training import accuracy

    data = _data(work)
    return None if data is None else accuracy(module, data.x_test, data.y_test)
