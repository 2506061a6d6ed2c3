"""Figures of kernels from the agent's times, the bundle's list of kernels and the board's limits."""

import json

import profiles
import pytest

from edgepack.errors import InputError
from edgepack.measuring.profile import ModelProfile
from edgepack.measuring.timeline import timeline, write_timeline


def by_name(profile):
    return {kernel.name: kernel for kernel in profile.kernels}


def test_calls_of_a_kernel_are_added():
    measured = profiles.profile()
    conv, pool = by_name(measured)["conv"], by_name(measured)["pool"]
    assert (conv.calls, conv.ms, conv.macs, conv.bytes) == (2, pytest.approx(0.008), 200_000, 8000)
    assert (conv.share, pool.share) == (pytest.approx(0.5), pytest.approx(0.5))
    assert conv.gmacs == pytest.approx(200_000 / 8000)
    assert (pool.macs, pool.gmacs, pool.arithmetic) == (0, None, None)
    assert (conv.tuned, pool.tuned) == (True, False)
    assert [node.name for node in conv.nodes] == ["c", "r", "d"]
    assert measured.kernels_ms == pytest.approx(0.016)


def test_the_slowest_kernel_is_first():
    assert [kernel.name for kernel in profiles.profile(profiles.raw(1, 2, 3)).kernels] == ["conv", "pool"]
    assert [kernel.name for kernel in profiles.profile(profiles.raw(1, 9, 3)).kernels] == ["pool", "conv"]


def test_the_nearer_limit_of_the_board_counts():
    """2 µs of multiply-accumulates, and 4,000 bytes in 0.4 µs at 10 GB/s; the pool moves 40,000 in 4 µs."""
    found = by_name(profiles.profile())
    assert (found["conv"].bound, found["conv"].roofline) == ("compute", pytest.approx(0.5))
    assert (found["pool"].bound, found["pool"].roofline) == ("memory", pytest.approx(0.5))


def test_memory_is_as_fast_as_the_cache_that_holds_the_model():
    cached = by_name(profiles.profile(working_set=900))["pool"]
    assert cached.roofline == pytest.approx(0.05)  # 0.4 µs at 100 GB/s
    beyond = by_name(profiles.profile(working_set=10**9))["pool"]
    assert beyond.roofline == pytest.approx(0.5)


def test_numbers_of_a_type_without_a_limit_have_no_share():
    listed = profiles.LISTED.model_copy(
        update={
            "kernels": tuple(
                kernel.model_copy(update={"arithmetic": kernel.arithmetic and "float16"})
                for kernel in profiles.LISTED.kernels
            )
        }
    )
    found = ModelProfile.of(
        profiles.raw(4000, 8000, 4000),
        listed,
        model="m",
        device="d",
        emulated=False,
        working_set=1,
        roofline=profiles.BOARD,
    )
    assert (by_name(found)["conv"].roofline, by_name(found)["conv"].bound) == (None, None)


def test_an_emulated_board_has_no_limits():
    found = profiles.profile(emulated=True)
    assert found.roofline is None
    assert all(kernel.roofline is None for kernel in found.kernels)


def test_the_overhead_is_that_of_pairs():
    over = profiles.profile().overhead
    assert over.median == pytest.approx(0.02)
    assert (over.p25, over.p75) == (pytest.approx(0.015), pytest.approx(0.03))


def test_a_copy_of_a_result_is_a_kernel_without_work():
    times = profiles.raw(4000, 8000, 4000, 10, kernels=("conv", "pool", "conv", "copy"))
    found = by_name(profiles.profile(times))["copy"]
    assert (found.calls, found.macs, found.bytes, found.nodes) == (1, 0, 0, ())


@pytest.mark.parametrize(
    "kernels", [("conv", "pool"), ("pool", "conv", "conv"), ("conv", "pool", "conv", "pool")]
)
def test_a_list_of_another_models_kernels_is_refused(kernels):
    times = profiles.raw(*[1] * len(kernels), kernels=kernels)
    with pytest.raises(InputError, match="list of kernels"):
        profiles.profile(times)


def test_a_clock_that_is_too_coarse_gives_no_rates():
    found = profiles.profile(profiles.raw(0, 0, 0))
    assert all(
        kernel.gmacs is None and kernel.roofline is None and kernel.share == 0 for kernel in found.kernels
    )


def test_a_profile_is_read_back(tmp_path):
    measured = profiles.profile()
    assert ModelProfile.load(measured.save(tmp_path / "p.json")) == measured


def test_the_timeline_has_an_event_for_each_call(tmp_path):
    measured = profiles.profile()
    write_timeline(measured, tmp_path / "t.json")
    trace = json.loads((tmp_path / "t.json").read_text())
    assert trace == timeline(measured)
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert [event["name"] for event in events] == ["c", "pool", "d"]
    assert [event["ts"] for event in events] == pytest.approx([0, 4.002, 12.004])
    assert [event["dur"] for event in events] == pytest.approx([4.002, 8.002, 4.002])
    assert events[0]["args"]["modules"] == ["stem.0"]
    assert events[0]["args"]["macs"] == 100_000
