"""The choice of the next kernel to search, and when a kernel is no longer searched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.tuning.search import Task, choose, negligible
from edgepack.tuning.store import LEAST_NOISE, beats


def kernel(name="k", untuned=1.0, bests=(), weight=1):
    """A kernel whose best candidate took ``bests`` seconds after each batch of four."""
    task = Task(name, name, weight, None, None, None, None, None, untuned_s=untuned)
    task.resume()
    for best in bests:
        task.trials += 4
        task.best_s = min(task.best_s, best)
        task.history.append((task.trials, task.best_s))
    return task


def test_noise_is_how_far_the_median_timing_lies_above_the_least():
    task = kernel(untuned=1e10)
    task.time_untuned(2.0)
    assert (task.untuned_s, task.noise) == (2.0, LEAST_NOISE)
    for seconds in (2.5, 2.1, 2.2, 9.0):
        task.time_untuned(seconds)
    assert (task.untuned_s, round(task.noise, 9)) == (2.0, 0.1)


def test_a_kernel_is_left_after_batches_that_gained_nothing():
    assert not kernel(bests=(2.0, 2.0)).settled(3)
    assert kernel(bests=(2.0, 2.0, 2.0)).settled(3)
    assert kernel(bests=(0.5, 0.499, 0.498, 0.498)).settled(3)  # less than the noise of 1 % in all
    assert not kernel(bests=(0.5, 0.4, 0.4, 0.4)).settled(3)
    assert not kernel(bests=(2.0,) * 9).settled(0)


def test_what_earlier_runs_reached_is_no_gain_of_this_one():
    task = kernel(bests=(0.5,))
    task.resume()
    assert not task.settled(1)
    task.history.append((8, 0.5))
    assert task.settled(1)


def test_a_search_that_fails_inside_tvm_ends_and_is_reported(caplog):
    class Broken:
        def generate_measure_candidates(self):
            raise RuntimeError("parallel_for_dynamic error with\nCheck failed: sizes differ")

    task = kernel(name="group_norm")
    task.context = Broken()
    assert task.generate(4) == []
    assert task.exhausted
    assert "group_norm" in caplog.text
    assert "sizes differ" in caplog.text


@given(st.lists(st.floats(1e-6, 10), min_size=1, max_size=12))
def test_kernels_left_out_for_their_size_take_little_of_the_model(seconds):
    tasks = [kernel(str(number), each) for number, each in enumerate(seconds)]
    left_out = negligible(tasks)
    share = sum(task.untuned_s for task in tasks if task.workload in left_out) / sum(seconds)
    assert share <= 0.02 + 1e-9
    assert len(left_out) < len(tasks)
    assert choose(tasks).untuned_s == max(seconds)


def test_no_kernel_is_worth_a_batch_when_all_are_left():
    tasks = [kernel("a", bests=(2.0,)), kernel("b", 3.0, bests=(4.0,))]
    assert choose(tasks) is not None
    assert choose(tasks, patience=1) is None


@pytest.mark.parametrize(
    ("best", "untuned", "noise", "expected"),
    [
        (0.98, 1.0, 0.01, True),
        (0.995, 1.0, 0.01, False),
        (0.6, 1.0, 0.5, True),
        (0.8, 1.0, 0.5, False),
        (0.01, 8.0, 4.0, True),  # timings of the fallback between 8 and 40: a hundredth still counts
        (2.0, 8.0, 4.0, False),
    ],
)
def test_noise_is_a_factor_of_times(best, untuned, noise, expected):
    assert beats(best, untuned, noise) == expected
