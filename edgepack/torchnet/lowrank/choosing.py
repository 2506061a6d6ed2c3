"""Which rank each layer gets: fixed, by energy, or by a budget of multiply-accumulates for all layers together."""

import math
from collections.abc import Mapping

from edgepack.errors import InputError
from edgepack.torchnet.lowrank.forms import Choice, RankForm

_BUCKETS = 4096  # in which the budget is counted
_OPTIONS = 96  # per layer
_LEAST = 1e-9  # energy, to take the logarithm of


def by_rank(form: RankForm, rank: int) -> Choice | None:
    """Return the choice with this rank; None if it does not save multiply-accumulates."""
    choice = form.at(rank)
    return choice if choice.macs < form.whole else None


def by_energy(form: RankForm, energy: float) -> Choice | None:
    """Return the cheapest choice that keeps this share of the energy; None if none saves multiply-accumulates."""
    return next((choice for choice in form.choices() if choice.energy >= energy), None)


def by_budget(forms: Mapping[str, RankForm], allowed: int) -> dict[str, Choice | None]:
    """Return choices that together take at most ``allowed`` multiply-accumulates and lose the least energy.

    What is maximised is the product over layers of the share of energy that is kept: a knapsack problem, solved exactly
    up to rounding costs up to 1/4096 of the budget. None leaves a layer whole.

    Raises:
        InputError: the lowest ranks take more.
    """
    options = {name: [*_thinned(form.choices()), None] for name, form in forms.items()}
    costs = {
        name: [forms[name].whole if choice is None else choice.macs for choice in own]
        for name, own in options.items()
    }
    least = sum(min(own) for own in costs.values())
    if least > allowed:
        raise InputError(
            "the budget cannot be met",
            where="compress, low-rank, macs",
            why="the layers that stay whole take more multiply-accumulates than it allows"
            if allowed < 0
            else f"the others take at least {least:,} multiply-accumulates at rank 1, and {allowed:,} are left for them",
            next="raise macs, or prune channels as well",
        )
    lost = {
        name: [0.0 if choice is None else -math.log(max(choice.energy, _LEAST)) for choice in own]
        for name, own in options.items()
    }
    picked = _knapsack([(costs[name], lost[name]) for name in forms], allowed)
    if picked is None:  # only because costs were rounded up
        picked = [min(range(len(costs[name])), key=costs[name].__getitem__) for name in forms]
    return {name: options[name][index] for name, index in zip(forms, picked, strict=True)}


def _thinned(choices: list[Choice]) -> list[Choice]:
    """At most ``_OPTIONS`` of the choices, the cheapest and the best included."""
    if len(choices) <= _OPTIONS:
        return choices
    return [choices[round(i * (len(choices) - 1) / (_OPTIONS - 1))] for i in range(_OPTIONS)]


def _knapsack(items: list[tuple[list[int], list[float]]], allowed: int) -> list[int] | None:
    """Return the index of one option per item, each with costs and losses, that loses least within ``allowed``."""
    import numpy as np

    unit = max(1, -(-allowed // _BUCKETS))
    capacity = allowed // unit
    best, taken = np.zeros(capacity + 1), []  # the least loss with at most this many units
    for costs, losses in items:
        after = np.full(capacity + 1, np.inf)
        option = np.full(capacity + 1, -1)
        for index, (cost, loss) in enumerate(zip(costs, losses, strict=True)):
            units = -(-cost // unit)
            if units <= capacity:
                total = best[: capacity + 1 - units] + loss
                better = total < after[units:]
                after[units:][better] = total[better]
                option[units:][better] = index
        best = after
        taken.append(option)
    if not np.isfinite(best[-1]):
        return None
    left, picked = capacity, []
    for (costs, _), option in zip(reversed(items), reversed(taken), strict=True):
        picked.append(int(option[left]))
        left -= -(-costs[picked[-1]] // unit)
    return picked[::-1]
