"""What the stages that work on torch modules share: modules in and out of checkpoints, and their figures."""

from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.compression import TorchMethod
from edgepack.compression.registry import METHODS
from edgepack.engine.stage import Output
from edgepack.spec import Input, ModelFacts, Spec
from edgepack.torchnet.checkpoint import Change, Rebuild, Restored

if TYPE_CHECKING:
    import torch

    from edgepack.data import Splits

TOOLS = ("torch", "numpy", "scikit-learn", "safetensors", "pillow")
SOURCES = (
    "data",
    "pipeline/stages/samples.py",
    "pipeline/stages/torch_models.py",
    "torchnet/checkpoint.py",
    "torchnet/layers.py",
    "torchnet/objective.py",
    "torchnet/source.py",
    "torchnet/training.py",
    "torchnet/weights.py",
)


class Rebuilt(Spec):
    """Methods whose changes a checkpoint may hold: their code shapes what is read from it."""

    methods: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str | Path, ...]:
        """The code of those that make changes again."""
        return tuple(part for name in self.methods if name in rebuilders() for part in METHODS[name].code())


def any_rebuilt() -> Rebuilt:
    """All methods that make changes again: a file that the user names may be a checkpoint of any of them."""
    return Rebuilt(methods=tuple(rebuilders()))


def rebuilders() -> dict[str, Rebuild]:
    """How each method makes its changes again, by method."""
    found = {}
    for name, method in METHODS.items():
        if isinstance(method, TorchMethod) and method.rebuild is not None:
            found[name] = method.rebuild
    return found


def restored(source: str, base: Path, path: Path) -> Restored:
    """The module of a checkpoint that an earlier stage wrote."""
    from edgepack.torchnet.checkpoint import restore
    from edgepack.torchnet.source import build_source

    return restore(build_source(source, base), path, rebuilders())


def saved(
    module: "torch.nn.Module", scratch: Path, name: str, changes: tuple[Change, ...] = ()
) -> dict[str, Output]:
    """The module as the checkpoint of this stage."""
    from edgepack.torchnet.checkpoint import save

    path = scratch / "model.safetensors"
    save(module, path, changes)
    return {"checkpoint": Output(path, "checkpoint", f"{name}.safetensors")}


def facts(
    module: "torch.nn.Module", inputs: tuple[Input, ...], data: "Splits | None", files: dict[str, Output]
) -> ModelFacts:
    """Counts and accuracy on the test split of a torch module, and the size of its checkpoint."""
    from edgepack.torchnet.layers import count_module, example_inputs
    from edgepack.torchnet.training import accuracy

    counts = count_module(module, example_inputs(inputs))
    return ModelFacts(
        parameters=counts.parameters,
        macs=counts.macs,
        size=files["checkpoint"].path.stat().st_size,
        accuracy=None if data is None else accuracy(module, data.x_test, data.y_test),
    )
