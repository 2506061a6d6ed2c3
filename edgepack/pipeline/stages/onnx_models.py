"""Shared by stages that work on .onnx files: figures of a model in onnxruntime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.engine.stage import Output
from edgepack.pipeline.stages.samples import save_source_outputs
from edgepack.spec import Input, ModelFacts

if TYPE_CHECKING:
    import numpy as np

    from edgepack.data import Splits
    from edgepack.scoring import Evaluation, Scorer

TOOLS = ("onnx", "onnxscript", "onnxruntime", "numpy", "scikit-learn", "pillow")
SOURCES = (
    "data",
    "export/comparing.py",
    "export/importing.py",
    "export/reference.py",
    "onnxfile",
    "pipeline/stages/onnx_models.py",
    "pipeline/stages/samples.py",
    "scoring",
    "torchnet/layers.py",
    "weightfile/cursor.py",
    "weightfile/estimate.py",
    "weightfile/frequencies.py",
    "weightfile/worth.py",
)


def evaluate_source(
    path: Path,
    inputs: Sequence[Input],
    scorer: "Scorer",
    data: "Splits | None",
    given: "Mapping[str, np.ndarray] | None",
    *,
    scratch: Path,
) -> "tuple[Evaluation | None, dict[str, Output]]":
    """What models are scored on, and the source's outputs as an artifact if the metric compares with them."""
    from edgepack.export.reference import predict_evaluated
    from edgepack.scoring import Evaluation

    if not scorer.of_source or (data is None and given is None):
        return Evaluation.of(scorer, data), {}
    unscored = Evaluation(given if data is None else data.x_test, None, scorer, whole=data is None)
    found = predict_evaluated(path, unscored, shapes=[each.shape for each in inputs])
    return Evaluation.of(scorer, data, given, found), save_source_outputs(found, scratch)


def facts(
    path: Path,
    evaluation: "Evaluation | None",
    *,
    reference: Path | None = None,
    inputs: Sequence[Input] | None = None,
    outputs: "Sequence[np.ndarray] | None" = None,
) -> ModelFacts:
    """Counts, size and weights of an .onnx file, and its score.

    If the file was imported from ``reference``, the score is that of ``reference``, which takes ``inputs``. ``outputs`` are
    those for what it is scored on, if they are known.
    """
    from edgepack.export.reference import predict_evaluated
    from edgepack.onnxfile.counting import count
    from edgepack.weightfile.estimate import estimated_sizes

    counts = count(path)
    size, memory = estimated_sizes(counts.weights)
    shapes = None if inputs is None else [given.shape for given in inputs]
    if evaluation is not None and outputs is None:
        outputs = predict_evaluated(reference or path, evaluation, shapes=shapes)
    found = None if evaluation is None or outputs is None else evaluation.score(outputs)
    return ModelFacts(
        parameters=counts.parameters,
        nonzeros=counts.nonzeros,
        macs=counts.macs,
        size=counts.size,
        weights_size=size,
        weights_memory=memory,
        encodings=counts.encodings,
        score=found,
    )
