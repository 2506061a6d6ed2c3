"""Orders, warm-up, the canary and its effects, with simulated contestants and a simulated machine."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.kit.interleaving import (
    InterleavedMeasurement,
    TimingPlan,
    Warm,
    orders,
    rounds_of,
    runs_of,
    warm_up,
)
from benchmarks.kit.processes import ProcessFailed

MS = 1_000_000


class Machine:
    """A scripted pace, a canary of 3 ms, and a log of the contestants that ran."""

    def __init__(self):
        self.pace = 1.0
        self.readings = iter(())
        self.seconds = 0.0
        self.running = None
        self.log = []

    def canary(self):
        assert self.running is None, "a contestant runs while the canary does"
        return (round(3 * MS * next(self.readings, self.pace)),)

    def clock(self):
        return self.seconds

    def pause(self, seconds):
        self.seconds += seconds


class Fake:
    """A contestant that takes ``ns`` per inference."""

    def __init__(self, machine, name, ns, breaks_at=None):
        self.machine, self.name, self.ns, self.calls, self.breaks_at = machine, name, ns, 0, breaks_at

    def resume(self):
        assert self.machine.running is None, "two run at once"
        self.machine.running = self.name

    def stop(self):
        self.machine.running = None

    def time(self, untimed, runs, timeout_s):
        assert self.machine.running == self.name
        self.calls += 1
        if self.calls == self.breaks_at:
            raise ProcessFailed("it broke")
        self.machine.log.append((self.name, untimed, runs))
        spent = round(self.ns * self.machine.pace)
        self.machine.seconds += (untimed + runs) * spent / 1e9
        return [spent] * runs


def measure(machine, fakes, plan):
    subjects = {fake.name: fake for fake in fakes}
    warm = {fake.name: Warm(fake.ns, 0, True) for fake in fakes}
    chance = random.Random(0)
    return InterleavedMeasurement(
        subjects, warm, plan, machine.canary, chance, pause=machine.pause, clock=machine.clock
    ).run()


@given(st.lists(st.text(min_size=1), min_size=1, max_size=9, unique=True), st.integers())
def test_a_round_is_an_order_and_its_mirror_image(names, seed):
    order = orders(names, random.Random(seed))
    assert order == order[::-1]
    assert sorted(order[: len(names)]) == sorted(names)


def test_orders_differ_from_round_to_round():
    chance = random.Random(0)
    assert len({tuple(orders("abcdef", chance)) for _ in range(20)}) > 15


@given(st.floats(1, 1e11))
def test_a_block_has_the_planned_length_within_its_bounds(ns):
    plan = TimingPlan()
    untimed, runs = runs_of(ns, plan)
    if ns >= plan.slow_ns:
        assert (untimed, runs) == (0, 1)
        return
    assert untimed >= 1
    assert plan.least_runs <= runs <= plan.most_runs
    if plan.least_runs < runs < plan.most_runs:
        assert abs(runs * ns - plan.block_ns) <= ns


def test_every_round_has_two_blocks_of_each_and_one_runs_at_a_time():
    machine = Machine()
    course = measure(machine, [Fake(machine, name, 2 * MS) for name in "abc"], TimingPlan(rounds=4))
    assert len(course.blocks) == 4 * 6
    assert all(turn.discarded is None for turn in course.blocks)
    for number in range(4):
        order = [turn.contestant for turn in course.blocks if turn.round == number]
        assert order == order[::-1]
    assert len(course.references) == 1
    assert not course.notes


def test_a_block_beside_a_drifting_canary_is_discarded_and_taken_again():
    machine = Machine()
    plan = TimingPlan(rounds=1, burst=5)
    machine.readings = iter([1] * 10 + [1, 1.04])
    course = measure(machine, [Fake(machine, "a", MS)], plan)
    assert [turn.discarded for turn in course.blocks] == ["canary +4.0%", None, None]
    assert [turn.position for turn in course.blocks] == [0, 0, 1]
    machine.readings = iter([1] * 10 + [1, 0.96])
    course = measure(machine, [Fake(machine, "a", MS)], plan)
    assert course.blocks[0].discarded == "canary -4.0%"
    machine.readings = iter([1] * 10 + [1.3, 0.96, 1.04])
    course = measure(machine, [Fake(machine, "a", MS)], plan)
    assert [turn.discarded for turn in course.blocks] == [None, None], "it begins when the canary is back"
    machine.readings = iter([1] * 10 + [1.02, 0.98, 1, 1])
    assert [turn.discarded for turn in measure(machine, [Fake(machine, "a", MS)], plan).blocks] == [
        None,
        None,
    ]


def test_one_slow_core_is_enough():
    machine = Machine()
    plan = TimingPlan(rounds=1, burst=3, retakes=0)
    readings = iter([(100, 100)] * 7)
    machine.canary = lambda: next(readings, (100, 104))
    course = measure(machine, [Fake(machine, "a", MS)], plan)
    assert course.blocks[0].discarded == "canary +4.0%"


def test_a_machine_that_settles_at_another_pace_starts_anew():
    machine = Machine()

    class Slowing(Fake):
        def time(self, untimed, runs, timeout_s):
            if self.calls == 4:
                self.machine.pace = 1.2
            return super().time(untimed, runs, timeout_s)

    course = measure(machine, [Slowing(machine, "a", MS), Fake(machine, "b", MS)], TimingPlan(rounds=5))
    assert [reference[0] for reference in course.references] == [3 * MS, round(3.6 * MS)]
    kept = [turn for turn in course.blocks if turn.discarded is None]
    assert {turn.samples_ns[0] for turn in kept} == {round(1.2 * MS)}
    assert {name: sum(turn.contestant == name for turn in kept) for name in "ab"} == {"a": 10, "b": 10}
    assert any(turn.discarded == "before a change of pace" for turn in course.blocks)
    assert "settled at 3.600 ms instead of 3.000 ms" in course.notes[0]


def test_a_reference_taken_in_a_disturbance_is_replaced_by_a_faster_one():
    machine = Machine()
    machine.canary = lambda: (round(3 * MS * (1.5 if machine.seconds < 4 else 1.0)),)
    plan = TimingPlan(rounds=15)
    course = measure(machine, [Fake(machine, name, 10 * MS) for name in "abc"], plan)
    assert [reference[0] for reference in course.references] == [4.5 * MS, 3 * MS]
    kept = [turn for turn in course.blocks if turn.discarded is None]
    assert len(kept) == 2 * 3 * plan.rounds
    assert {turn.canary_before_ns[0] for turn in kept} == {3 * MS}
    assert machine.seconds < plan.seconds


def test_a_jitter_about_as_large_as_the_limit_drops_no_round():
    machine = Machine()
    chance = random.Random(2)
    machine.canary = lambda: tuple(round(3 * MS * chance.uniform(0.97, 1.03)) for _ in range(2))
    plan = TimingPlan(rounds=15)
    course = measure(machine, [Fake(machine, name, 10 * MS) for name in "abcdef"], plan)
    assert len(course.references) == 1
    assert sum(turn.discarded is None for turn in course.blocks) >= 0.95 * 2 * 6 * plan.rounds


def test_a_machine_that_never_settles_ends_in_time_and_says_so():
    machine = Machine()
    chance = random.Random(1)
    machine.canary = lambda: (round(3 * MS * chance.uniform(0.5, 2)),)
    plan = TimingPlan(rounds=30, seconds=20, burst=3)
    course = measure(machine, [Fake(machine, name, 10 * MS) for name in "abc"], plan)
    assert machine.seconds < 6 * plan.seconds
    assert any("ended after" in note for note in course.notes)
    (given_up,) = [note for note in course.notes if "given up after 6 tries" in note]
    assert int(given_up.split()[0]) >= 1
    assert any("went by in waiting" in note for note in course.notes)


@pytest.mark.parametrize("lasts_s", [0.5, 8, 15])
def test_a_disturbance_that_passes_is_waited_for_and_costs_no_block(lasts_s):
    machine = Machine()
    begins, plan = 10.0, TimingPlan(rounds=15)

    def canary():
        disturbed = begins <= machine.seconds < begins + lasts_s
        return (round(3 * MS * (1.3 if disturbed else 1.0)),)

    machine.canary = canary
    course = measure(machine, [Fake(machine, name, 10 * MS) for name in "abcdef"], plan)
    assert len(course.references) == 1
    assert sum(turn.discarded is None for turn in course.blocks) == 2 * 6 * plan.rounds
    assert sum(turn.discarded is not None for turn in course.blocks) <= 1
    assert [f"{lasts_s:.0f} s went by in waiting for disturbances to pass"] == course.notes or lasts_s < 1


def test_a_pace_that_keeps_changing_for_a_minute_is_waited_for_as_well():
    machine = Machine()
    plan = TimingPlan(rounds=2, seconds=100)

    def canary():
        at = machine.seconds
        return (round(3 * MS * (1.0 if at < 8 or at > 60 else 1.3 + 0.1 * (int(at) % 2))),)

    machine.canary = canary
    course = measure(machine, [Fake(machine, name, 500 * MS) for name in "ab"], plan)
    kept = [turn for turn in course.blocks if turn.discarded is None]
    assert len(kept) == 2 * 2 * plan.rounds
    assert len(course.references) == 1
    assert all(turn.canary_before_ns == turn.canary_after_ns == (3 * MS,) for turn in kept)


def test_who_breaks_leaves_and_the_others_go_on():
    machine = Machine()
    fakes = [Fake(machine, "a", MS), Fake(machine, "b", MS, breaks_at=3)]
    course = measure(machine, fakes, TimingPlan(rounds=5))
    assert course.failed == {"b": "it broke"}
    assert sum(turn.contestant == "a" for turn in course.blocks) == 10
    assert sum(turn.contestant == "b" for turn in course.blocks) == 2
    course = measure(machine, [Fake(machine, "a", MS, breaks_at=1)], TimingPlan(rounds=5))
    assert not course.blocks
    assert set(course.failed) == {"a"}


def test_the_slow_take_part_in_fewer_rounds_and_nobody_in_too_few():
    plan = TimingPlan(rounds=15, seconds=60)
    warm = {"fast": Warm(MS, 0, True), "slow": Warm(300 * MS, 0, True), "slower": Warm(20_000 * MS, 0, True)}
    rounds = rounds_of(warm, plan, 3 * MS)
    assert rounds["fast"] == 15
    assert 5 <= rounds["slow"] < 15
    assert rounds["slower"] == 5
    machine = Machine()
    course = measure(machine, [Fake(machine, "a", MS), Fake(machine, "b", 3000 * MS)], plan)
    found = {name: {t.round for t in course.blocks if t.contestant == name} for name in "ab"}
    assert found["b"] == set(range(5))
    assert found["a"] == set(range(15))


def test_warm_up_goes_on_until_three_blocks_agree():
    machine = Machine()

    class Warming(Fake):
        def time(self, untimed, runs, timeout_s):
            self.ns = max(MS, self.ns * 0.8)
            return super().time(untimed, runs, timeout_s)

    fake = Warming(machine, "a", 5 * MS)
    found = warm_up(fake, TimingPlan())
    assert found.stable
    assert found.inference_ns == MS
    assert machine.running is None
    assert found.inferences == sum(runs for _, _, runs in machine.log)


def test_warm_up_gives_up_on_what_never_settles_and_says_so():
    machine = Machine()

    class Restless(Fake):
        def time(self, untimed, runs, timeout_s):
            self.ns *= 1.2
            return super().time(untimed, runs, timeout_s)

    plan = TimingPlan()
    assert not warm_up(Restless(machine, "a", MS), plan).stable
    assert machine.seconds < 3 * plan.warm_ns / 1e9


def test_warm_up_stops_who_breaks():
    machine = Machine()
    with pytest.raises(ProcessFailed):
        warm_up(Fake(machine, "a", MS, breaks_at=2), TimingPlan())
    assert machine.running is None
