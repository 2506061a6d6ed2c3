"""Branches of residual blocks: layers whose outputs are only added to a value that goes around them.

Without a branch, the sum is that value: the shortcut, an identity or a projection.
"""

import copy
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.fx
from torch import nn

from edgepack.torchnet.blocks import Passthrough, RemovableBlock
from edgepack.torchnet.layers import inference, layer_macs, replace_layer

_MATRIX = 2  # axes of a weight
_SUMS = {operator.add, operator.iadd, torch.add}
_SUM_METHODS = {"add", "add_"}


class Nothing(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """Returns zeros in place of the last layer of a branch: one number, or a batch of ``shape`` if it is changed in place."""

    def __init__(self, shape: Sequence[int] | None) -> None:
        super().__init__()
        self._shape = shape

    def forward(self, x: torch.Tensor, *_args: Any, **_options: Any) -> torch.Tensor:
        """Return zeros of the type of ``x``."""
        return x.new_zeros(() if self._shape is None else (len(x), *self._shape))


@dataclass(frozen=True)
class Branch:
    """Layers that are removed together.

    Attributes:
        layers: layers and sequences of layers, all of which pass their input on instead, except the last one.
        last: the one whose output is added.
        shape: of this output without the batch axis, if the sum is computed in place, of which a trace shows nothing.
        block: what is saved.
    """

    layers: tuple[str, ...]
    last: str
    shape: tuple[int, ...] | None
    block: RemovableBlock

    @property
    def record(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "layers": list(self.layers),
            "last": self.last,
            "shape": None if self.shape is None else list(self.shape),
        }


def without_branch(module: nn.Module, record: Mapping[str, Any]) -> nn.Module:
    """Remove a recorded branch, in place; returns the module."""
    for name in record["layers"]:
        new = Nothing(record["shape"]) if name == record["last"] else Passthrough()
        module = replace_layer(module, module.get_submodule(name), new.eval())
    return module


def branches(module: nn.Module, examples: Sequence[torch.Tensor]) -> dict[str, Branch]:
    """Return the branches of ``module``, in eval mode, by their layers; none if its ``forward`` cannot be traced.

    Of two branches that are added, only the one with more multiply-accumulates is returned.
    """
    try:
        traced = torch.fx.GraphModule(module, torch.fx.Tracer().trace(module))
    except Exception:  # noqa: BLE001 - tracing runs the user's forward() on proxies and may raise anything
        return {}
    shapes = _Shapes(traced)
    with inference(module), torch.no_grad():
        shapes.run(*examples)
    macs = layer_macs(module, tuple(examples))
    found: dict[str, Branch] = {}
    for node in traced.graph.nodes:
        operands = _operands(node)
        tried = [_branch(module, node, end, shapes.found, macs) for end in operands]
        best = max((each for each in tried if each), key=lambda each: each.block.macs, default=None)
        if best is not None:
            found[best.block.name] = _summed(module, best, shapes.found[node], examples)
    return found


def _summed(
    module: nn.Module, branch: Branch, shape: tuple[int, ...], examples: Sequence[torch.Tensor]
) -> Branch:
    """Return the branch with the shape of its sum, if the module does not run with a single zero: ``out += shortcut``."""
    thinner = without_branch(copy.deepcopy(module), branch.record)
    try:
        with inference(thinner), torch.no_grad():
            thinner(*examples)
    except RuntimeError:
        return replace(branch, shape=shape[1:])
    return branch


class _Shapes(torch.fx.Interpreter):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    def __init__(self, traced: torch.fx.GraphModule) -> None:
        super().__init__(traced)
        self.found: dict[torch.fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: torch.fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            self.found[n] = tuple(result.shape)
        return result


def _operands(node: torch.fx.Node) -> list[torch.fx.Node]:
    """Return the two values that a node adds; nothing if it adds no two different values."""
    sums = (node.op == "call_function" and node.target in _SUMS) or (
        node.op == "call_method" and node.target in _SUM_METHODS
    )
    both = [each for each in node.args if isinstance(each, torch.fx.Node)]
    if not sums or len(both) != 2 or both[0] is both[1] or node.kwargs:  # noqa: PLR2004 - a sum of two
        return []
    return both


def _branch(
    module: nn.Module,
    node: torch.fx.Node,
    end: torch.fx.Node,
    shapes: Mapping[torch.fx.Node, tuple[int, ...]],
    macs: Mapping[str, int],
) -> Branch | None:
    """Return the branch that ends with ``end``, one of the values that ``node`` adds; None if it is none."""
    other = next(each for each in _operands(node) if each is not end)
    if end.op != "call_module" or len(end.users) != 1 or shapes.get(other) != shapes.get(node):
        return None
    nodes = list(end.graph.nodes)
    region = {end}
    for each in reversed(nodes[: nodes.index(end)]):
        if each.op not in {"placeholder", "get_attr"} and each.users and region.issuperset(each.users):
            region.add(each)
    inputs = [each for each in nodes if each.op == "placeholder" and each.users]
    if other in region or any(region.issuperset(each.users) for each in inputs):
        return None
    called = {str(each.target) for each in nodes if each.op == "call_module" and each not in region}
    own = [str(each.target) for each in nodes if each in region and each.op == "call_module"]
    own = [name for name in dict.fromkeys(own) if name not in called]
    parameters = [p for name in own for p in module.get_submodule(name).parameters()]
    if str(end.target) not in own or not any(p.dim() >= _MATRIX for p in parameters):
        return None
    layers = _outermost(module, own)
    last = next(name for name in layers if f"{end.target}.".startswith(f"{name}."))
    weighted = [
        name for name in own if any(p.dim() >= _MATRIX for p in module.get_submodule(name).parameters())
    ]
    block = RemovableBlock(
        name=", ".join(layers),
        kind="branch",
        parameters=sum(p.numel() for p in parameters),
        macs=sum(macs.get(name, 0) for name in own),
        weighted=len(weighted),
    )
    return Branch(tuple(layers), last, None, block)


def _outermost(module: nn.Module, names: Sequence[str]) -> list[str]:
    """Return ``names`` with sequences of layers in place of all of their layers."""
    found = list(names)
    sequences = [
        (name, each) for name, each in module.named_modules() if name and type(each) is nn.Sequential
    ]
    for name, each in reversed(sequences):
        inner = [f"{name}.{own}" for own, _ in each.named_children()]
        if inner and set(inner) <= set(found):
            place = found.index(inner[0])
            found = [one for one in found if one not in inner]
            found.insert(place, name)
    return found
