"""Forms of torch's recurrent layers that the exporter writes wrongly, or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgepack.data.user_code import spot
from edgepack.errors import InputError

if TYPE_CHECKING:
    import torch


def projections_as_loops(module: "torch.nn.Module", examples: "tuple[torch.Tensor, ...]") -> Any:
    """Return the module, or its graph in which LSTMs with ``proj_size`` are matrix products, step by step.

    ONNX's LSTM has no projection; torch's exporter writes one nevertheless, with states of the wrong size.
    """
    import torch

    if not any(isinstance(each, torch.nn.LSTM) and each.proj_size for each in module.modules()):
        return module
    operator = torch.ops.aten.lstm.input
    loop = torch.export.default_decompositions()[operator]

    def projected_alone(data: Any, states: Any, *rest: Any) -> Any:
        hidden, cell = (state.shape[-1] for state in states)
        return NotImplemented if hidden == cell else loop(data, states, *rest)

    return torch.export.export(module, examples).run_decompositions({operator: projected_alone})


@contextmanager
def packing_refused(module: "torch.nn.Module") -> Iterator[None]:
    """Refuse sequences that ``forward()`` packs.

    Raises:
        InputError: with the place in the user's code, and the recurrent layers.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class Packing(Exception):  # noqa: N818 - not an error by itself
        """A sequence is packed."""

    class PackingMode(TorchFunctionMode):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
        def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if getattr(function, "__name__", "") == "_pack_padded_sequence":
                raise Packing
            return function(*args, **(kwargs or {}))

    try:
        with PackingMode():
            yield
    except Packing as error:
        layers = [f"`{name}`" for name, each in module.named_modules() if isinstance(each, torch.nn.RNNBase)]
        named = " and ".join(layers) or "its recurrent layer"
        raise InputError(
            f"{type(module).__name__} packs the sequences for {named}",
            where=spot(error),
            why="the number of elements in a packed sequence depends on the lengths; every shape of a compiled model is fixed",
            next=f"call {named} with the padded sequences: in one direction, no valid step depends on the padding after it; "
            "take the last valid step of each sequence with torch.gather",
        ) from None
