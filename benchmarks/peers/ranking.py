"""Evaluate the groups: figures of each contestant, and comparison with edgepack. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.kit.statistics import Ratio, Summary, ratio, summarise
from benchmarks.peers.results import ContestantResult, Group

OURS = "edgepack"


@dataclass(frozen=True)
class Standing:
    """One measured contestant of a group."""

    name: str
    entry: ContestantResult
    times: Summary
    rounds: int
    to_ours: Ratio | None  # of medians, contestant over edgepack: above 1, edgepack is faster
    roofline_share: float | None

    @property
    def title(self) -> str:
        """Title for tables and charts, marked if its int8 outputs are not exact on this CPU."""
        inexact = self.entry.exactness is not None and not self.entry.exactness.exact
        return f"{self.entry.title} (inexact)" if inexact else self.entry.title

    def cold(self, figure: str) -> float | None:
        """Return the median of a figure of the cold starts."""
        return median(getattr(cold, figure) for cold in self.entry.cold) if self.entry.cold else None


@dataclass(frozen=True)
class Ranked:
    """A group and its measured contestants, sorted by speed."""

    group: Group
    order: tuple[Standing, ...]

    @property
    def ours(self) -> Standing | None:
        """The standing of edgepack, if it was measured."""
        return next((one for one in self.order if one.name == OURS), None)

    @property
    def best_peer(self) -> Standing | None:
        """The fastest peer."""
        return next((one for one in self.order if one.name != OURS), None)

    @property
    def ahead(self) -> tuple[Standing, ...]:
        """Peers that are significantly faster than edgepack, fastest first."""
        return tuple(
            one for one in self.order if one.to_ours and one.to_ours.decided and one.to_ours.value < 1
        )


def _value(standing: Standing) -> float:
    return standing.to_ours.value if standing.to_ours else float("inf")


def rank(group: Group) -> Ranked:
    """Compute all figures of a group from its raw samples."""
    measured = {name: entry for name, entry in group.entries.items() if entry.status == "measured"}
    ours = group.kept(OURS) if OURS in measured else {}
    standings = []
    for name, entry in measured.items():
        rounds = group.kept(name)
        times = summarise([sample for samples in rounds.values() for sample in samples])
        standings.append(
            Standing(
                name,
                entry,
                times,
                len(rounds),
                ratio(rounds, ours, seed=group.seed) if set(rounds) & set(ours) else None,
                group.roofline.ns / times.median if group.roofline else None,
            )
        )
    # By ratio, which compares adjacent blocks: medians of different rounds may give another order.
    return Ranked(
        group, tuple(sorted(standings, key=lambda standing: (_value(standing), standing.times.median)))
    )


def losses(groups: Sequence[Ranked]) -> list[Ranked]:
    """Return groups in which a peer is significantly faster than edgepack, largest gap first."""
    return sorted((ranked for ranked in groups if ranked.ahead), key=lambda ranked: _value(ranked.ahead[0]))
