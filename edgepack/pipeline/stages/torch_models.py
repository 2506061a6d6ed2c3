"""Shared by stages that work on torch modules: load and save checkpoints, and figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.compression import TorchMethod
from edgepack.compression.registry import METHODS
from edgepack.engine.stage import Output
from edgepack.pipeline.stages.samples import save_source_outputs
from edgepack.spec import Input, ModelFacts, Spec
from edgepack.torchnet.checkpoint import Change, Rebuild, Restored

if TYPE_CHECKING:
    import numpy as np
    import torch

    from edgepack.data import Splits
    from edgepack.scoring import Evaluation, Scorer

TOOLS = ("torch", "numpy", "scikit-learn", "safetensors", "pillow")
SOURCES = (
    "data",
    "pipeline/stages/samples.py",
    "pipeline/stages/torch_models.py",
    "scoring",
    "torchnet/checkpoint.py",
    "torchnet/layers.py",
    "torchnet/losses.py",
    "torchnet/objective.py",
    "torchnet/source.py",
    "torchnet/training.py",
    "torchnet/weights.py",
)


class Rebuilt(Spec):
    """Methods whose changes a checkpoint may contain, and whose code is needed to restore it."""

    methods: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str | Path, ...]:
        """The code that restores their changes."""
        return tuple(
            part for name in self.methods if name in rebuilders() for part in METHODS[name].on("torch").code()
        )


def any_rebuilt() -> Rebuilt:
    """All methods that can restore changes: a user's file may be a checkpoint of any of them."""
    return Rebuilt(methods=tuple(rebuilders()))


def rebuilders() -> dict[str, Rebuild]:
    """The function that restores a method's changes, by method."""
    found = {}
    for name, either in METHODS.items():
        method = either.on("torch") if "torch" in either.levels else None
        if isinstance(method, TorchMethod) and method.rebuild is not None:
            found[name] = method.rebuild
    return found


def restore_module(source: str, base: Path, path: Path) -> Restored:
    """Load the module from a checkpoint of an earlier stage."""
    from edgepack.torchnet.checkpoint import restore
    from edgepack.torchnet.source import build_source

    return restore(build_source(source, base), path, rebuilders())


def save_module(
    module: "torch.nn.Module", scratch: Path, name: str, changes: tuple[Change, ...] = ()
) -> dict[str, Output]:
    """Save the module as the checkpoint of this stage."""
    from edgepack.torchnet.checkpoint import save

    path = scratch / "model.safetensors"
    save(module, path, changes)
    return {"checkpoint": Output(path, "checkpoint", f"{name}.safetensors")}


def evaluate_source(
    module: "torch.nn.Module",
    scorer: "Scorer",
    data: "Splits | None",
    given: "Mapping[str, np.ndarray] | None",
    scratch: Path,
) -> "tuple[Evaluation | None, dict[str, Output]]":
    """What models are scored on, and the source's outputs as an artifact if the metric compares with them."""
    from edgepack.scoring import Evaluation
    from edgepack.torchnet.training import all_outputs, whole_outputs

    if not scorer.of_source or (data is None and given is None):
        return Evaluation.of(scorer, data), {}
    found = whole_outputs(module, given) if data is None else all_outputs(module, data.x_test)
    return Evaluation.of(scorer, data, given, found), save_source_outputs(found, scratch)


def facts(
    module: "torch.nn.Module",
    inputs: tuple[Input, ...],
    evaluation: "Evaluation | None",
    files: dict[str, Output],
) -> ModelFacts:
    """Counts and score of a torch module, and the size of its checkpoint."""
    from edgepack.torchnet.layers import count_module, example_inputs
    from edgepack.torchnet.training import evaluated_outputs

    counts = count_module(module, example_inputs(inputs))
    return ModelFacts(
        parameters=counts.parameters,
        nonzeros=counts.nonzeros,
        macs=counts.macs,
        size=files["checkpoint"].path.stat().st_size,
        score=None if evaluation is None else evaluation.score(evaluated_outputs(module, evaluation)),
    )
