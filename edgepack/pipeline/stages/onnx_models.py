"""Shared by stages that work on .onnx files: figures of a model in onnxruntime."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.spec import ModelFacts

if TYPE_CHECKING:
    from edgepack.data import Splits

TOOLS = ("onnx", "onnxscript", "onnxruntime", "numpy", "scikit-learn", "pillow")
SOURCES = (
    "data",
    "export/comparing.py",
    "export/importing.py",
    "export/reference.py",
    "export/sampling.py",
    "onnxfile",
    "pipeline/stages/onnx_models.py",
    "pipeline/stages/samples.py",
    "torchnet/layers.py",
)


def facts(
    path: Path, data: "Splits | None", *, reference: Path | None = None, shape: Sequence[int] | None = None
) -> ModelFacts:
    """Counts and size of an .onnx file, and its accuracy on the test split.

    If the file was imported from ``reference``, the accuracy is that of ``reference``; its one input has ``shape``.
    """
    from edgepack.export.reference import evaluate
    from edgepack.onnxfile.counting import count

    counts = count(path)
    return ModelFacts(
        parameters=counts.parameters,
        macs=counts.macs,
        size=counts.size,
        encodings=counts.encodings,
        accuracy=None if data is None else evaluate(reference or path, data.x_test, data.y_test, shape=shape),
    )
