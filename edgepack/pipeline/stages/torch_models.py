"""Shared by stages that work on torch modules: load and save checkpoints, and figures."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.compression import Step, StepFile, TorchMethod
from edgepack.compression.registry import METHODS
from edgepack.engine.artifact import Artifact
from edgepack.engine.stage import Output
from edgepack.errors import InputError
from edgepack.pipeline.fingerprint import step_inputs
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
    "export/bundled.py",
    "onnxfile/block_form.py",
    "onnxfile/encodings/expressions.py",
    "onnxfile/encodings/integers.py",
    "pipeline/stages/samples.py",
    "pipeline/stages/torch_models.py",
    "scoring",
    "torchnet/answers.py",
    "torchnet/checkpoint.py",
    "torchnet/encodable.py",
    "torchnet/layers.py",
    "torchnet/learned_steps.py",
    "torchnet/losses.py",
    "torchnet/objective.py",
    "torchnet/outputs.py",
    "torchnet/source.py",
    "torchnet/stored.py",
    "torchnet/training.py",
    "torchnet/training_state.py",
    "torchnet/trainings.py",
    "torchnet/weights.py",
    "weightfile/cursor.py",
    "weightfile/estimate.py",
    "weightfile/frequencies.py",
    "weightfile/worth.py",
)


class Rebuilt(Spec):
    """Methods whose changes a checkpoint may contain, and whose code is needed to restore it."""

    methods: tuple[str, ...] = ()
    builders: tuple[str, ...] = ()  # what builds modules that replace the source's

    @classmethod
    def of(cls, methods: Sequence[str], steps: Sequence[Step]) -> "Rebuilt":
        """What restores a checkpoint that ``methods`` changed, by these steps or in the source's weights."""
        return cls(methods=tuple(methods), builders=tuple(file.value for file in _builders(steps)))

    @property
    def sources(self) -> tuple[str | Path, ...]:
        """The code that restores their changes."""
        return tuple(
            part for name in self.methods if name in rebuilders() for part in METHODS[name].on("torch").code()
        )


def any_rebuilt() -> Rebuilt:
    """All methods that can restore changes: a user's file may be a checkpoint of any of them."""
    return Rebuilt(methods=tuple(rebuilders()))


def built_by(steps: Sequence[Step], base: Path) -> dict[str, Artifact]:
    """Digests of the code that builds modules which replace the source's, by role."""
    return {f"built by {role}": found for role, found in step_inputs(_builders(steps), base).items()}


def _builders(steps: Sequence[Step]) -> list[StepFile]:
    return [file for step in steps for file in METHODS[step.method].files(step) if file.builds]


def rebuilders(base: Path = Path(), sources: Collection[str] = ()) -> dict[str, Rebuild]:
    """The function that restores a method's changes, by method.

    Args:
        base: the recipe's folder.
        sources: what the recipe says builds a module. A checkpoint does not decide which code is run.
    """
    found: dict[str, Rebuild] = {}
    for name, either in METHODS.items():
        method = either.on("torch") if "torch" in either.levels else None
        if isinstance(method, TorchMethod) and method.builds is not None:
            found[name] = partial(_build, method, base, sources)
        elif isinstance(method, TorchMethod) and method.rebuild is not None:
            found[name] = method.rebuild
    return found


def _build(
    method: TorchMethod[Any],
    base: Path,
    sources: Collection[str],
    _module: "torch.nn.Module",
    change: Mapping[str, Any],
) -> "torch.nn.Module":
    from edgepack.torchnet.source import build_source

    source = str(change) if method.builds is None else method.builds(change)
    if source not in sources:
        raise InputError(
            f"the checkpoint's network is built by {source}, which the recipe does not name",
            why="loading weights runs no code but that of the recipe",
            next=f"set the source that these weights belong to, to {source}",
        )
    module = build_source(source, base)
    return module if method.rebuild is None else method.rebuild(module, change)


def restore_module(source: str, base: Path, path: Path, builders: Sequence[str] = ()) -> Restored:
    """Load the module from a checkpoint of an earlier stage.

    Args:
        source: builds the original module.
        base: the recipe's folder.
        path: the checkpoint.
        builders: what builds modules that earlier steps put in its place.
    """
    from edgepack.torchnet.checkpoint import restore
    from edgepack.torchnet.source import build_source

    return restore(build_source(source, base), path, rebuilders(base, (source, *builders)))


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
    from edgepack.torchnet.outputs import all_outputs, whole_outputs

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
    """Counts, weights and score of a torch module, and the size of its checkpoint."""
    from edgepack.export.bundled import module_weights
    from edgepack.torchnet.layers import count_module, example_inputs
    from edgepack.torchnet.outputs import evaluated_outputs
    from edgepack.weightfile.estimate import estimated_sizes

    examples = example_inputs(inputs)
    counts = count_module(module, examples)
    weights_size, weights_memory = estimated_sizes(module_weights(module, examples))
    return ModelFacts(
        parameters=counts.parameters,
        nonzeros=counts.nonzeros,
        macs=counts.macs,
        size=files["checkpoint"].path.stat().st_size,
        weights_size=weights_size,
        weights_memory=weights_memory,
        score=None if evaluation is None else evaluation.score(evaluated_outputs(module, evaluation)),
    )
