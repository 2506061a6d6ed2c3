"""The options of prune-channels, and which channels an iteration removes, on a torch module or an ONNX graph."""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from edgepack.compression.method import Step, one_of, unused
from edgepack.compression.ranking import Criterion
from edgepack.compression.selection import Skip, select, skipped
from edgepack.compression.sensitive import noise_alone
from edgepack.compression.widths import Prunable, Scope, multiple_of, remove_share, remove_within
from edgepack.errors import InputError
from edgepack.spec import Seed, Train

if TYPE_CHECKING:
    import numpy as np

    from edgepack.compression.method import Context
    from edgepack.torchnet.channels.table import ChannelGroup, ChannelTable, Volume

_SKIP = "compress, prune-channels, skip"


class PruneChannels(Step):
    """Remove the least important channels, neurons and attention heads, then fine-tune."""

    method: Literal["prune-channels"]
    ratio: float | None = Field(
        default=None, gt=0, lt=1, description="Share of channels removed. Give one of ratio, macs and size."
    )
    macs: float | None = Field(
        default=None, gt=0, lt=1, description="Budget: MACs left, as a share of those before this step."
    )
    size: float | None = Field(
        default=None, gt=0, lt=1, description="Budget: weights left, as a share of those before this step."
    )
    criterion: Criterion = Field(
        default="l1",
        description="Importance: norm of the filter, scale of its batch normalisation (bn), change of the loss "
        "(taylor), magnitude of the values (activation), or random.",
    )
    scope: Scope = Field(
        default="layer",
        description="Whether each layer loses its share, or all layers together, by importance.",
    )
    round_to: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        default="auto",
        description="Round the remaining channels to a multiple of this; auto: the vector width of the targets.",
    )
    iterations: int = Field(
        default=1, ge=1, description="Rounds in which the channels are removed, with fine-tuning after each."
    )
    samples: int = Field(default=256, ge=1, description="Samples for the criterion activation.")
    skip: Skip = Field(
        default=(),
        description="Layers that keep all channels: names, with * and ? as wildcards; auto or a limit in dB, by sensitivity.",
    )
    fine_tune: Train | None = Field(default=None, description="Fine-tune afterwards, on the training split.")
    seed: Seed = Field(default=0, description="Seed of the criterion random and of the choice of samples.")


@dataclass
class Start:
    """The model before the first iteration.

    Attributes:
        full: members of each group, by its layers.
        widths: channels of each layer.
        costs: the cost for each budget.
        sensitive: layers that ``skip`` leaves alone by measurement, with the reason; None before it has measured.
    """

    full: dict[tuple[tuple[str, int], ...], int] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    sensitive: dict[str, str] | None = None


def conflicts(step: PruneChannels) -> tuple[tuple[str, str], ...]:
    """Options of a step that contradict each other: the key, and what is wrong."""
    if amounts := one_of(step, "ratio", "macs", "size"):
        return amounts
    if step.iterations > 1 and step.fine_tune is None and step.criterion in {"l1", "l2", "random"}:
        return (("iterations", "without fine_tune, several iterations remove the same channels as one"),)
    return unused(step, "samples", used=step.criterion == "activation", by="`criterion: activation`")


def lock_skipped(
    table: "ChannelTable", step: PruneChannels, names: Mapping[str, tuple[str, ...]] | None = None
) -> None:
    """Lock the channels of the layers that the recipe names; ``names`` are all names of each layer, if it has several.

    Raises:
        InputError: a pattern matches no layer.
    """
    producers = names or {name: (name,) for name in table.producers}
    patterns = step.skip if isinstance(step.skip, tuple) else ()
    for name in select(patterns, producers, kind="layer", where=_SKIP):
        table.sets.lock(table.outputs[name], "skipped by the recipe")


def lock_sensitive(
    table: "ChannelTable",
    step: PruneChannels,
    start: Start,
    *,
    least: Callable[["Sequence[ChannelGroup]"], AbstractSet[int]],
    outputs: "Callable[[AbstractSet[int]], Sequence[np.ndarray]]",
    context: "Context",
) -> None:
    """Lock the channels of the layers that the outputs depend on too much, if ``skip`` asks for it.

    Layers whose channels are removed together are measured together, in the model before the first iteration.

    Args:
        table: the channels of the current model.
        step: its options.
        start: the model before the first iteration; filled in by the first call.
        least: returns what all iterations remove from some groups.
        outputs: returns the model's outputs on samples if nothing reads some sets of channels.
        context: of the step.
    """
    if isinstance(step.skip, tuple):
        return
    if start.sensitive is None:
        groups = table.groups()
        removed = least(groups)
        layers = {", ".join(group.multiplicity): tuple(group.multiplicity) for group in groups}
        own: dict[str, set[int]] = {name: set() for name in layers}
        for group in groups:
            own[", ".join(group.multiplicity)] |= removed & set(group.members)

        def noise() -> dict[str, float]:
            alone = {name: partial(outputs, gone) for name, gone in own.items() if gone}
            return noise_alone(outputs(frozenset()), alone, context)

        left = skipped(step.skip, layers, noise, kind="layer", where=_SKIP)
        start.sensitive = {layer: why for name, why in left.items() for layer in layers[name]}
    for layer, why in start.sensitive.items():
        table.sets.lock(table.outputs[layer], why)


@dataclass(frozen=True)
class Chooser:
    """Chooses the sets of channels to remove from the current model.

    Attributes:
        table: its channels.
        step: its ratio or budget, scope and rounding.
        lanes: what ``round_to: auto`` rounds to.
        score: returns the importance of the members of each group.
        volumes: by budget, what its cost is the sum of.
    """

    table: "ChannelTable"
    step: PruneChannels
    lanes: int
    score: "Callable[[Sequence[ChannelGroup]], Sequence[Sequence[float]]]"
    volumes: "Mapping[str, Sequence[Volume]]"

    def __call__(
        self, groups: "Sequence[ChannelGroup]", share: float = 1.0, start: Start | None = None
    ) -> set[int]:
        """Return the sets of channels in ``groups`` to remove.

        Args:
            groups: some of the current model's.
            share: of all iterations, how many are done after this one: each multiplies what is left by the same factor.
            start: the model before the first iteration, filled in by the first call; the current model if None.

        Raises:
            InputError: the budget cannot be met.
        """
        step, start = self.step, start or Start()
        auto = step.round_to == "auto"
        round_to = self.lanes if step.round_to == "auto" else step.round_to
        prunable = []
        for group, own in zip(groups, self.score(groups), strict=True):
            full = start.full.setdefault(tuple(sorted(group.multiplicity.items())), len(group.members))
            prunable.append(Prunable(group, own, full, multiple_of(group, full, round_to, shrink=auto)))
        if step.ratio is not None:
            return remove_share(prunable, 1 - (1 - step.ratio) ** share, step.scope)
        option = "macs" if step.macs is not None else "size"
        allowed = step.macs if step.macs is not None else step.size
        cost = partial(self.table.amount, self.volumes[option])
        before = start.costs.setdefault(option, cost(frozenset()))
        budget = before * (allowed or 1.0) ** share
        return remove_within(prunable, step.scope, cost, budget, what=option)


def nothing_removed(model: str, step: PruneChannels, table: "ChannelTable") -> InputError:
    """The error for a model that a step leaves as it is."""
    amount = " and ".join(
        f"{key} {getattr(step, key)}"
        for key in ("ratio", "macs", "size", "round_to")
        if getattr(step, key) is not None
    )
    return InputError(
        f"{model} has no channels to remove with {amount}",
        where=f"compress, {step.method}",
        why="; ".join(f"{name}: {why}" for name, why in list(table.reasons().items())[:4]) or None,
        next="raise ratio or lower the budget, lower round_to, or remove this step",
    )
