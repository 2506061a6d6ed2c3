"""The recipe's samples and metric, as the stages use them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.compression import Method, Step
from edgepack.engine.artifact import Artifact
from edgepack.engine.stage import Output
from edgepack.errors import InputError
from edgepack.scoring import Evaluation, Scorer
from edgepack.spec import Data, Input, Metric

if TYPE_CHECKING:
    import numpy as np

    from edgepack.data import Splits

SOURCE_OUTPUTS = "source_outputs"  # the role of the source's outputs, for metrics that compare with them


def samples(data: Data | None, base: Path, inputs: Sequence[Input]) -> "Splits | None":
    """The recipe's samples, in the order of the model's inputs. Their sources are part of the cache key, so the arrays are not stored."""
    from edgepack.data import fit_inputs, load_data

    return None if data is None else fit_inputs(load_data(data, base), inputs)


def samples_for(method: Method[Any], step: Step, file: str | None, metric: Metric) -> str | None:
    """The recipe's file of inputs without labels, if the step or its metric needs samples: they are in the key of no other step."""
    needed = any(need.kind == "samples" for need in method.needs(step))
    return file if needed or Scorer(metric).of_source else None


def evaluation(
    metric: Metric,
    base: Path,
    data: "Splits | None",
    given: "Mapping[str, np.ndarray] | None",
    files: Mapping[str, Path],
) -> Evaluation | None:
    """What a model is scored on by the recipe's metric; ``files`` are those of the stage's inputs."""
    return Evaluation.of(Scorer(metric, base), data, given, source_outputs(files))


def source_outputs(files: Mapping[str, Path]) -> "tuple[np.ndarray, ...] | None":
    """The source model's outputs, if the stage has them among its inputs."""
    import numpy as np

    if SOURCE_OUTPUTS not in files:
        return None
    with np.load(files[SOURCE_OUTPUTS], allow_pickle=False) as archive:
        return tuple(archive[f"output_{number}"] for number in range(len(archive.files)))


def save_source_outputs(outputs: "Sequence[np.ndarray]", scratch: Path) -> dict[str, Output]:
    """The source model's outputs as an artifact, for the stages that compare with them."""
    import numpy as np

    path = scratch / "source-outputs.npz"
    arrays = {f"output_{number}": array for number, array in enumerate(outputs)}
    np.savez(path, allow_pickle=False, **arrays)
    return {SOURCE_OUTPUTS: Output(path, "source-outputs", path.name)}


def of_source(artifacts: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """The source model's outputs among a candidate's artifacts, if the metric compares with them."""
    return {role: artifact for role, artifact in artifacts.items() if role == SOURCE_OUTPUTS}


def unlabelled(file: str | None, inputs: Sequence[Input], base: Path) -> "dict[str, np.ndarray] | None":
    """The recipe's inputs without labels, by name, each ``[N, *shape]``; None if it has none."""
    from edgepack.data.inputs_file import load_inputs

    return None if file is None else load_inputs(base / file, inputs)


def required_samples(data: Data | None, base: Path, inputs: Sequence[Input]) -> "Splits":
    """The recipe's samples.

    Raises:
        InputError: it has none.
    """
    found = samples(data, base, inputs)
    if found is None:
        raise InputError(
            "this step needs data, but the recipe has none", next="add a data block to the recipe"
        )
    return found
