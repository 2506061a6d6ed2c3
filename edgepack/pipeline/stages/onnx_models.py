"""What the stages that work on .onnx files share: what onnxruntime says of a model."""

from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.spec import ModelFacts

if TYPE_CHECKING:
    from edgepack.data import Splits

TOOLS = ("onnx", "onnxscript", "onnxruntime", "numpy", "scikit-learn", "pillow")
SOURCES = (
    "data",
    "export/integers.py",
    "export/reference.py",
    "onnxfile",
    "pipeline/stages/onnx_models.py",
    "pipeline/stages/samples.py",
    "torchnet/layers.py",
)


def facts(path: Path, data: "Splits | None") -> ModelFacts:
    """Counts, size and accuracy on the test split of an .onnx file."""
    from edgepack.export.reference import evaluate
    from edgepack.onnxfile.counting import count

    counts = count(path)
    return ModelFacts(
        parameters=counts.parameters,
        macs=counts.macs,
        size=counts.size,
        encodings=counts.encodings,
        accuracy=None if data is None else evaluate(path, data.x_test, data.y_test),
    )
