"""From a module to its channel graph: traced, then walked on example inputs."""

from collections import defaultdict
from typing import TYPE_CHECKING

from edgepack.data.user_code import spot
from edgepack.errors import InputError
from edgepack.torchnet.channels.graph import ChannelGraph

if TYPE_CHECKING:
    import torch


def analyse(module: "torch.nn.Module", examples: "tuple[torch.Tensor, ...]") -> ChannelGraph:
    """Trace ``module`` (in eval mode) on ``examples`` and find its channels.

    Raises:
        InputError: if ``forward`` cannot be traced (control flow on values), naming the line.
    """
    import torch.fx

    from edgepack.torchnet.channels.propagation import Walk

    try:
        traced = torch.fx.GraphModule(module, torch.fx.Tracer().trace(module))
    except Exception as error:  # tracing runs the user's forward() on proxies: anything can come out
        raise InputError(
            f"{type(module).__name__} cannot be traced, so its channels are not known",
            where=spot(error),
            why=f"{type(error).__name__}: {error}".strip().partition("\n")[0].partition(". ")[0],
            next="keep forward() free of branches and loops on tensor values, or drop prune-channels",
        ) from error
    graph = ChannelGraph(module)
    with torch.no_grad():
        Walk(traced, graph, _shared_parameters(module)).run(*examples)
    return graph


def _shared_parameters(module: "torch.nn.Module") -> set[str]:
    """Layers whose weights other layers use too."""
    owners: dict[int, set[str]] = defaultdict(set)
    for name, layer in module.named_modules():
        for parameter in layer.parameters(recurse=False):
            owners[id(parameter)].add(name)
    return {name for names in owners.values() if len(names) > 1 for name in names}
