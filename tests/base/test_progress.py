"""The time that work still takes, from the share that is done."""

import pytest

from edgepack.base.progress import TimeLeft, describe_left


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_it_is_known_once_the_share_has_risen(clock):
    left = TimeLeft(clock)
    assert left.estimate(None) is None
    assert left.estimate(0.0) is None
    clock.now += 10
    assert left.estimate(0.25) == pytest.approx(30)
    clock.now += 10
    assert left.estimate(0.5) == pytest.approx(20)
    assert left.estimate(1.0) == pytest.approx(0)


def test_what_was_done_before_does_not_count(clock):
    left = TimeLeft(clock)
    left.estimate(0.5)
    clock.now += 6
    assert left.estimate(0.6) == pytest.approx(24)


def test_other_work_starts_anew(clock):
    left = TimeLeft(clock)
    left.estimate(0.5)
    clock.now += 6
    left.estimate(0.9)
    assert left.estimate(0.1) is None
    clock.now += 1
    assert left.estimate(0.2) == pytest.approx(8)
    left.reset()
    assert left.estimate(0.3) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.4, ""),
        (12.3, ", about 12 s left"),
        (200, ", about 3 min left"),
        (5400, ", about 1.5 h left"),
    ],
)
def test_it_is_said_in_round_numbers(seconds, text):
    assert describe_left(seconds) == text
