"""Interleaved timing: blocks in a random order and its mirror image, guarded by a canary.

A *round* is a random order of all contestants followed by the same order backwards (ABBA), so that a slow drift
of the machine affects all of them alike. A *block* is a contestant's turn: some untimed inferences that refill
the caches, then the timed ones. A fixed computation, the *canary*, runs on each of the cell's cores directly
before and after a block. Before the block it is repeated until it is within ``TimingPlan.drift`` of its reference, so
that temporary disturbances are waited for; if it is outside after the block, the block is discarded and repeated. The
reference is the lower quartile of a burst of canaries before the first round, because any disturbance of a canary
makes it slower, and of consecutive bursts until two agree. If waiting for
``TimingPlan.patience`` seconds does not help, or a canary is much faster than the reference, and such bursts have another
quartile, the machine's speed has changed permanently: the rounds so far are dropped, the new quartile becomes the
reference, and counting of rounds restarts.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.kit.processes import ProcessFailed, WorkerProcess
from edgepack.spec import Spec

OVERTIME = 3  # times a group's seconds, after which it ends even if incomplete
Canary = Callable[[], tuple[int, ...]]  # nanoseconds on each core


@dataclass(frozen=True)
class TimingPlan:
    """Parameters for measuring a group."""

    rounds: int = 15
    least_rounds: int = 5  # minimum, for contestants too slow for their share of the time
    seconds: float = 90.0  # for a group, shared equally by its contestants
    block_ns: int = 75_000_000
    untimed_ns: int = 15_000_000
    least_runs: int = 3
    most_runs: int = 100  # more would only increase the size of the results
    slow_ns: int = 1_000_000_000  # inferences at least this long form a block of one, without untimed ones
    drift: float = 0.03
    retakes: int = 5
    patience: float = 20.0  # seconds to wait for a canary that deviates from its reference
    faster: float = 0.1  # if a canary is faster than its reference by this, the reference was disturbed
    settling: int = 5  # maximum number of bursts, a second apart, until two agree
    burst: int = 25  # canaries for a reference
    stable: float = 0.03  # warm-up ends when the medians of three blocks are within this of each other
    warm_ns: int = 3_000_000_000  # maximum warm-up, unless three blocks take longer


@dataclass(frozen=True)
class Warm:
    """Result of a warm-up."""

    inference_ns: float  # median of the last three blocks
    inferences: int
    stable: bool


class TimedBlock(Spec):
    """One contestant's turn in a round."""

    contestant: str
    round: int
    position: int  # in its round
    discarded: str | None  # why it is not counted
    canary_before_ns: tuple[int, ...]  # on each core
    canary_after_ns: tuple[int, ...]
    samples_ns: tuple[int, ...]


@dataclass
class Course:
    """The record of a group's measurement."""

    blocks: list[TimedBlock] = field(default_factory=list)
    references: list[tuple[int, ...]] = field(default_factory=list)  # of the canary, one per start
    failed: dict[str, str] = field(default_factory=dict)  # contestant: reason
    notes: list[str] = field(default_factory=list)


def orders(names: Sequence[str], chance: random.Random) -> list[str]:
    """Return one round: a random order and its mirror image."""
    order = list(names)
    chance.shuffle(order)
    return order + order[::-1]


def warm_up(subject: WorkerProcess, plan: TimingPlan) -> Warm:
    """Run until stable: the medians of the last three blocks are within ``plan.stable`` of each other.

    Raises:
        ProcessFailed: The contestant failed.
    """
    taken: list[float] = []
    spent = inferences = 0
    runs, stable = 1, False
    subject.resume()
    try:
        while len(taken) < 4 or not (stable or spent > plan.warm_ns):
            samples = subject.time(0, runs, 120 + spent / 1e8)
            inferences += len(samples)
            spent += sum(samples)
            taken.append(median(samples))
            runs = _clamp(plan.block_ns / 3 / max(taken[-1], 1), 1, 10 * plan.most_runs)
            last = taken[-3:]
            stable = max(last) <= (1 + plan.stable) * min(last)
    finally:
        subject.stop()
    return Warm(median(taken[-3:]), inferences, stable)


def runs_of(inference_ns: float, plan: TimingPlan) -> tuple[int, int]:
    """Return the number of untimed and timed inferences of a block."""
    if inference_ns >= plan.slow_ns:
        return 0, 1
    least = max(inference_ns, 1.0)
    untimed = _clamp(plan.untimed_ns / least, 1, 10 * plan.most_runs)
    return untimed, _clamp(plan.block_ns / least, plan.least_runs, plan.most_runs)


def rounds_of(warm: Mapping[str, Warm], plan: TimingPlan, canary_ns: float) -> dict[str, int]:
    """Return how many rounds each contestant takes part in: all, unless its share of the time permits fewer."""
    rounds = {}
    for name, one in warm.items():
        turn_ns = sum(runs_of(one.inference_ns, plan)) * one.inference_ns + 2 * canary_ns
        share = plan.seconds * 1e9 / len(warm)
        rounds[name] = _clamp(share / (2 * turn_ns), min(plan.least_rounds, plan.rounds), plan.rounds)
    return rounds


def _clamp(value: float, least: int, most: int) -> int:
    return max(least, min(most, round(value)))


def in_turns(subjects: Mapping[str, WorkerProcess], runs: int, seed: int = 0) -> dict[str, list[int]]:
    """Return nanoseconds of ``runs`` inferences of each, one per turn, after one warm-up.

    A quick comparison of builds: there is no canary, so nothing is discarded or repeated.

    Raises:
        ProcessFailed: One of them failed.
    """
    warm = {}
    for name, subject in subjects.items():
        subject.resume()
        warm[name] = Warm(subject.time(0, 1, 600)[0], 1, stable=False)
        subject.stop()
    plan = TimingPlan(
        rounds=-(-runs // 2), seconds=1e9, slow_ns=0
    )  # every inference is slow: a block of its own
    chance = random.Random(seed)  # noqa: S311 - an order, no secret
    course = InterleavedMeasurement(subjects, warm, plan, lambda: (1,), chance, pause=lambda _: None).run()
    for name, why in course.failed.items():
        raise ProcessFailed(f"{name}: {why}")
    taken: dict[str, list[int]] = {name: [] for name in subjects}
    for block in course.blocks:
        taken[block.contestant] += block.samples_ns
    return {name: samples[:runs] for name, samples in taken.items()}


@dataclass
class InterleavedMeasurement:
    """The rounds of one group. Call ``run`` once; ``course`` has the measurements even after an error."""

    subjects: Mapping[str, WorkerProcess]
    warm: Mapping[str, Warm]
    plan: TimingPlan
    canary: Canary
    chance: random.Random
    pause: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    course: Course = field(default_factory=Course, init=False)
    _reference: tuple[int, ...] = field(default=(), init=False)
    _given_up: int = field(default=0, init=False)  # turns without a valid block
    _waited: float = field(default=0.0, init=False)  # seconds spent waiting for the canary
    _deadline: float = field(default=0.0, init=False)

    def run(self) -> Course:
        """Run all rounds, within three times the plan's seconds."""
        self._deadline = self.clock() + OVERTIME * self.plan.seconds
        self._rounds()
        if self._given_up:
            turns = "1 turn was" if self._given_up == 1 else f"{self._given_up} turns were"
            self.course.notes.append(f"{turns} given up after {self.plan.retakes + 1} tries")
        if self._waited >= 1:
            self.course.notes.append(f"{self._waited:.0f} s went by in waiting for disturbances to pass")
        return self.course

    def _rounds(self) -> None:
        self._reference = self._settle() or self._burst()
        self.course.references.append(self._reference)
        until = rounds_of(self.warm, self.plan, sum(self._reference))
        number = first = 0
        while left := [
            name for name in self.subjects if until[name] > number - first and name not in self.course.failed
        ]:
            if self.clock() > self._deadline:
                why = f"waiting and retaken blocks took {OVERTIME} times the group's time"
                self.course.notes.append(f"ended after {number - first} rounds: {why}")
                break
            settled = self._round(number, orders(left, self.chance))
            number += 1
            if not settled:
                first = number

    def _round(self, number: int, order: Sequence[str]) -> bool:
        """Run one round; False if the machine's speed changed and earlier rounds were dropped."""
        for position, name in enumerate(order):
            for _ in range(self.plan.retakes + 1):
                if name in self.course.failed or self.clock() > self._deadline:
                    break
                before = self._quiet()
                if before is None:
                    if self._has_moved(number):
                        return False
                    continue
                block = self._block(number, position, name, before)
                if block is not None and block.discarded is None:
                    break
            else:
                self._given_up += 1
        return True

    def _quiet(self) -> tuple[int, ...] | None:
        """Wait for a canary near the reference; None if that takes too long, or if it is much too fast.

        Nothing makes a canary that much faster than normal, so the reference was disturbed.
        """
        began = self.clock()
        while self._drift(reading := self.canary()) is not None:
            pace = min(now / then for now, then in zip(reading, self._reference, strict=True))
            if pace < 1 - self.plan.faster or self.clock() - began > self.plan.patience:
                reading = None
                break
            self.pause(0.05)
        self._waited += self.clock() - began
        return reading

    def _block(self, number: int, position: int, name: str, before: tuple[int, ...]) -> TimedBlock | None:
        """Run one block after the canary ``before``; None if the contestant failed."""
        inference_ns = self.warm[name].inference_ns
        untimed, runs = runs_of(inference_ns, self.plan)
        subject = self.subjects[name]
        subject.resume()
        try:
            samples = subject.time(untimed, runs, 60 + 20 * (untimed + runs) * inference_ns / 1e9)
        except ProcessFailed as error:
            self.course.failed[name] = str(error)
            return None
        finally:
            subject.stop()
        after = self.canary()
        block = TimedBlock(
            contestant=name,
            round=number,
            position=position,
            discarded=self._drift(after),
            canary_before_ns=before,
            canary_after_ns=after,
            samples_ns=tuple(samples),
        )
        self.course.blocks.append(block)
        return block

    def _drift(self, reading: tuple[int, ...]) -> str | None:
        """Describe the canary's deviation from its reference on the worst core, if it is too large."""
        drifts = (now / then - 1 for now, then in zip(reading, self._reference, strict=True))
        worst = max(drifts, key=abs)
        return f"canary {worst:+.1%}" if abs(worst) > self.plan.drift else None

    def _burst(self) -> tuple[int, ...]:
        readings = [self.canary() for _ in range(self.plan.burst)]
        return tuple(sorted(core)[len(core) // 4] for core in zip(*readings, strict=True))

    def _settle(self) -> tuple[int, ...] | None:
        """Return the reference of a burst that agrees with the one a second before; None if none does."""
        before = self._burst()
        for _ in range(self.plan.settling):
            self.pause(1.0)
            now = self._burst()
            if all(abs(new / old - 1) <= self.plan.drift for new, old in zip(now, before, strict=True)):
                return now
            before = now
        return None

    def _has_moved(self, number: int) -> bool:
        """Whether the machine's speed has changed permanently; earlier blocks are dropped then."""
        now = self._settle()
        if now is None or self._drift(now) is None:
            return False
        self.course.notes.append(
            f"round {number}: the canary settled at {_ms(now)} instead of {_ms(self._reference)};"
            " the rounds before were dropped"
        )
        self.course.blocks = [
            block if block.discarded else block.model_copy(update={"discarded": "before a change of pace"})
            for block in self.course.blocks
        ]
        self._reference = now
        self.course.references.append(now)
        return True


def _ms(reading: tuple[int, ...]) -> str:
    return " and ".join(f"{ns / 1e6:.3f} ms" for ns in reading)
