"""Recurrent layers with input weights of low rank: a projection before each layer, which exports as MatMul and LSTM."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence


class FactoredRecurrent(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """The layers of an LSTM, GRU or RNN one by one, each with or without a projection of its input.

    The weights between hidden states stay as they are: an ONNX operator has one matrix for them.
    """

    def __init__(self, like: Any, ranks: Sequence[int]) -> None:
        """Create the layers of ``like`` with new weights; ``ranks`` has the width of each projection, 0 for none."""
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers = (
            like.input_size,
            like.hidden_size,
            like.num_layers,
        )
        self.bias, self.batch_first, self.dropout = like.bias, like.batch_first, like.dropout
        self.bidirectional = like.bidirectional
        self._directions = 2 if like.bidirectional else 1
        options = {"nonlinearity": like.nonlinearity} if isinstance(like, nn.RNN) else {}
        self.projections, self.layers = nn.ModuleList(), nn.ModuleList()
        for number, rank in enumerate(ranks):
            width = like.input_size if number == 0 else like.hidden_size * self._directions
            self.projections.append(nn.Linear(width, rank, bias=False) if rank else nn.Identity())
            self.layers.append(
                type(like)(
                    rank or width,
                    like.hidden_size,
                    bias=like.bias,
                    batch_first=like.batch_first,
                    bidirectional=like.bidirectional,
                    **options,
                )
            )
        self.to(like.weight_ih_l0.dtype)

    def forward(self, x: Any, state: Any = None) -> Any:
        """Return the outputs of the last layer and the final states of all, as the original layer does."""
        finals = []
        for number, (projection, layer) in enumerate(zip(self.projections, self.layers, strict=True)):
            if number and self.dropout and self.training:
                x = _map(nn.functional.dropout, x, self.dropout)
            x, final = layer(_map(projection, x), self._own(state, number))
            finals.append(final)
        if isinstance(finals[0], tuple):
            return x, tuple(torch.cat(parts) for parts in zip(*finals, strict=True))
        return x, torch.cat(finals)

    def flatten_parameters(self) -> None:
        """Do nothing: the layers flatten their own parameters."""

    def _own(self, state: Any, number: int) -> Any:
        if state is None:
            return None
        mine = slice(number * self._directions, (number + 1) * self._directions)
        return tuple(part[mine] for part in state) if isinstance(state, tuple) else state[mine]


def _map(function: Any, x: Any, *args: Any) -> Any:
    """Apply a function of the last axis to a tensor or to the data of packed sequences."""
    if isinstance(x, PackedSequence):
        return x._replace(data=function(x.data, *args))
    return function(x, *args)


def weight_names(layer: Any, number: int) -> tuple[str, ...]:
    """The names of the input weights of layer ``number``: one per direction."""
    return tuple(f"weight_ih_l{number}{end}" for end in (("", "_reverse") if layer.bidirectional else ("",)))


def copy_weights(source: Any, target: FactoredRecurrent) -> None:
    """Copy all weights of ``source`` that have the same shape in ``target``: all but those that are factored."""
    with torch.no_grad():
        for number, layer in enumerate(target.layers):
            for name, parameter in layer.named_parameters():
                own = getattr(source, name.replace("_l0", f"_l{number}"))
                if own.shape == parameter.shape and (
                    not name.startswith("weight_ih") or isinstance(target.projections[number], nn.Identity)
                ):
                    parameter.copy_(own)
