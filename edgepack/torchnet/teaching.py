"""Losses of a student that learns from the outputs and the inner values of teachers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.nn import functional
from torch.utils import _pytree

from edgepack.errors import InputError

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

Matching = Literal["softmax", "mse"]
_MAP = 3  # axes of values with positions, at least
_TINY = 1e-12


def mixed(outputs: Sequence[Any], weights: Sequence[float]) -> "list[list[torch.Tensor]]":
    """Return for each output the values of all teachers, and refuse teachers with other numbers of outputs."""
    leaves = [_pytree.tree_leaves(each) for each in outputs]
    if len({len(each) for each in leaves}) > 1 or len(leaves) != len(weights):
        counts = ", ".join(str(len(each)) for each in leaves)
        raise InputError(f"the teachers have {counts} outputs", next="use teachers with the same outputs")
    return [list(each) for each in zip(*leaves, strict=True)]


@dataclass(frozen=True)
class Comparison:
    """How outputs of student and teachers are compared.

    Attributes:
        weights: of the teachers; they sum up to 1.
        matching: ``softmax`` compares probabilities at a temperature by cross-entropy, less that of the teachers with
            themselves, times the temperature squared (Hinton et al. 2015, arXiv:1503.02531); ``mse`` the outputs.
        temperature: of ``softmax``.
    """

    weights: Sequence[float]
    matching: Matching
    temperature: float


def output_loss(student: Any, teachers: Sequence[Any], how: Comparison, axes: Sequence[int]) -> torch.Tensor:
    """Return how far the student's outputs are from the weighted mean of the teachers', summed over the outputs.

    Args:
        student: its output ``[N, ...]``, or several.
        teachers: the same of each teacher.
        how: how they are compared.
        axes: of each output, the axis of classes; 1 for those that have none here.

    Raises:
        InputError: numbers or shapes of outputs differ.
    """
    ours, theirs = _pytree.tree_leaves(student), mixed(teachers, how.weights)
    if len(ours) != len(theirs):
        raise InputError(f"the student has {len(ours)} outputs, its teacher {len(theirs)}")
    total = ours[0].new_zeros(())
    for number, (output, wanted) in enumerate(zip(ours, theirs, strict=True)):
        for each in wanted:
            if each.shape != output.shape:
                raise InputError(
                    f"an output of the student is {list(output.shape)}, of its teacher {list(each.shape)}",
                    next="give student and teacher the same outputs",
                )
        if how.matching == "mse":
            mean = torch.stack([weight * each for weight, each in zip(how.weights, wanted, strict=True)]).sum(
                0
            )
            total = total + functional.mse_loss(output, mean)
        else:
            axis = axes[number] if number < len(axes) else 1
            moved = [each.movedim(axis, 1) if each.dim() > 1 else each for each in (output, *wanted)]
            total = total + _softmax_loss(moved[0], moved[1:], how)
    return total


def _softmax_loss(output: torch.Tensor, wanted: Sequence[torch.Tensor], how: Comparison) -> torch.Tensor:
    """Kullback-Leibler divergence over axis 1, which holds the classes; of one logit, that to class 0 as well."""
    ours, *theirs = (_with_classes(each) / how.temperature for each in (output, *wanted))
    mean = torch.zeros_like(ours)
    for weight, each in zip(how.weights, theirs, strict=True):
        mean = mean + weight * each.softmax(1)
    divergence = functional.kl_div(ours.log_softmax(1), mean, reduction="none").sum(1)
    return divergence.mean() * how.temperature**2


def _with_classes(scores: torch.Tensor) -> torch.Tensor:
    """Scores ``[N, classes, ...]``; zeros are put before a single logit ``[N]`` or ``[N, 1, ...]``."""
    scores = scores[:, None] if scores.dim() == 1 else scores
    return torch.cat([torch.zeros_like(scores), scores], 1) if scores.shape[1] == 1 else scores


@dataclass(frozen=True)
class Pair:
    """A layer of the student and the layer of a teacher that it learns from.

    Attributes:
        kind: ``features`` compares values (FitNets: Romero et al. 2015, arXiv:1412.6550), after a linear projection where
            numbers of channels differ; ``attention`` where the squared values are large
            (Zagoruyko and Komodakis 2017, arXiv:1612.03928).
        student: the layer's name.
        teacher: the name of the teacher's layer.
        number: which teacher.
        weight: of this loss.
    """

    kind: Literal["features", "attention"]
    student: str
    teacher: str
    number: int
    weight: float


@dataclass
class Watched:
    """The values that layers returned when they were last called, by module number (0 is the student) and name."""

    student: nn.Module
    teachers: tuple[nn.Module, ...]
    values: dict[tuple[int, str], torch.Tensor] = field(default_factory=dict)
    handles: "list[RemovableHandle]" = field(default_factory=list)

    @classmethod
    def of(cls, student: nn.Module, teachers: Sequence[nn.Module], pairs: Sequence[Pair]) -> "Watched":
        """Watch the layers of ``pairs``."""
        watched = cls(student, tuple(teachers))
        modules = {0: student, **{number + 1: teacher for number, teacher in enumerate(teachers)}}
        wanted = {(0, pair.student) for pair in pairs} | {(pair.number + 1, pair.teacher) for pair in pairs}
        for number, name in sorted(wanted):
            layer = modules[number].get_submodule(name)
            watched.handles.append(layer.register_forward_hook(partial(watched._note, (number, name))))
        return watched

    def _note(self, key: tuple[int, str], _layer: nn.Module, _arguments: Any, output: Any) -> None:
        self.values[key] = _pytree.tree_leaves(output)[0]

    def of_pair(self, pair: Pair) -> tuple[torch.Tensor, torch.Tensor]:
        """The student's and the teacher's values.

        Raises:
            InputError: one of the layers was not called.
        """
        keys = ((0, pair.student), (pair.number + 1, pair.teacher))
        for key in keys:
            if key not in self.values:
                raise InputError(
                    f"the layer {key[1]!r} is not called", where=f"compress, distill, {pair.kind}"
                )
        return self.values[keys[0]], self.values[keys[1]]

    def close(self) -> None:
        """Stop watching."""
        for handle in self.handles:
            handle.remove()


def projections(watched: Watched, pairs: Sequence[Pair], seed: int) -> nn.ModuleList:
    """Return a linear map of channels for each pair of features, or none where the numbers are equal; values are known."""
    made = nn.ModuleList()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for pair in pairs:
            ours, theirs = watched.of_pair(pair)
            axis = _channel_axis(ours, theirs, pair)
            channels = (ours.shape[axis], theirs.shape[axis])
            equal = pair.kind == "attention" or channels[0] == channels[1]
            made.append(nn.Identity() if equal else nn.Linear(*channels, bias=False))
    return made


def inner_loss(watched: Watched, pairs: Sequence[Pair], maps: nn.ModuleList) -> torch.Tensor:
    """Return the weighted sum of the losses of all pairs, each relative to the size of the teacher's values."""
    losses = []
    for pair, project in zip(pairs, maps, strict=True):
        ours, theirs = watched.of_pair(pair)
        axis = _channel_axis(ours, theirs, pair)
        if pair.kind == "attention":
            ours, theirs = (each.square().mean(axis, keepdim=True) for each in (ours, theirs))
        elif not isinstance(project, nn.Identity):
            ours = project(ours.movedim(axis, -1)).movedim(-1, axis)
        ours, theirs = _same_positions(ours, theirs)
        if pair.kind == "attention":
            ours, theirs = (functional.normalize(each.flatten(1), dim=1) for each in (ours, theirs))
            losses.append(pair.weight * (ours - theirs).square().sum(1).mean())
        else:
            size = theirs.square().mean().clamp_min(_TINY)
            losses.append(pair.weight * functional.mse_loss(ours, theirs) / size)
    return torch.stack(losses).sum()


def _channel_axis(ours: torch.Tensor, theirs: torch.Tensor, pair: Pair) -> int:
    """Axis 1 as in convolutions, or the last one where all others are equal, as in transformers."""
    fits = ours.dim() == theirs.dim() and ours.dim() > 1
    if fits and (pair.kind == "features" or ours.dim() >= _MAP):
        tokens = ours.dim() == _MAP and ours.shape[:2] == theirs.shape[:2]
        return ours.dim() - 1 if tokens else 1
    raise InputError(
        f"the values of {pair.student!r} are {list(ours.shape)}, those of the teacher's {pair.teacher!r} {list(theirs.shape)}",
        where=f"compress, distill, {pair.kind}",
        next="choose layers with values of as many axes"
        + (", and with positions: [N, channels, positions, ...]" if pair.kind == "attention" else ""),
    )


_POOLS = {
    3: functional.adaptive_avg_pool1d,
    4: functional.adaptive_avg_pool2d,
    5: functional.adaptive_avg_pool3d,
}


def _same_positions(ours: torch.Tensor, theirs: torch.Tensor) -> "tuple[torch.Tensor, torch.Tensor]":
    """Average the larger map over as many positions as the smaller has."""
    if ours.shape[2:] == theirs.shape[2:] or ours.dim() not in _POOLS:
        return ours, theirs
    size = [min(pair) for pair in zip(ours.shape[2:], theirs.shape[2:], strict=True)]
    pool = _POOLS[ours.dim()]
    return pool(ours, size), pool(theirs, size)
