"""Build the channel graph of a module: trace it, then run it on example inputs."""

from typing import TYPE_CHECKING

from edgepack.data.user_code import spot
from edgepack.errors import InputError
from edgepack.torchnet.channels.graph import ChannelGraph
from edgepack.torchnet.layers import sharing_layers

if TYPE_CHECKING:
    import torch


def analyse(module: "torch.nn.Module", examples: "tuple[torch.Tensor, ...]") -> ChannelGraph:
    """Trace ``module`` (in eval mode) on ``examples`` and determine its channels.

    Raises:
        InputError: if ``forward`` cannot be traced (data-dependent control flow), naming the line.
    """
    import torch.fx

    from edgepack.torchnet.channels.propagation import Walk

    try:
        traced = torch.fx.GraphModule(module, torch.fx.Tracer().trace(module))
    except Exception as error:  # tracing runs the user's forward() on proxies and may raise anything
        raise InputError(
            f"{type(module).__name__} cannot be traced, so its channels are unknown",
            where=spot(error),
            why=f"{type(error).__name__}: {error}".strip().partition("\n")[0].partition(". ")[0],
            next="avoid branches and loops on tensor values in forward(), or remove prune-channels",
        ) from error
    graph = ChannelGraph(module)
    with torch.no_grad():
        Walk(traced, graph, sharing_layers(module)).run(*examples)
    return graph
