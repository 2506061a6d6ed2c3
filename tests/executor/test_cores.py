"""On machines with several kinds of cores, threads run on the fast ones that are enough."""

import pytest
from executor_kit import HERE, RUNTIME, compile_with_clang, run

from edgepack.executor.build import SOURCES

BIG_LITTLE = [446, 446, 446, 446, 1024, 1024]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    assert SOURCES / "cores.c" in RUNTIME
    sources = (HERE / "cores.c", SOURCES / "cores.c")
    return compile_with_clang(tmp_path_factory.mktemp("cores") / "cores", sources, "address")


def fast(program, root, threads, capacities=(), frequencies=()):
    for name, numbers in (("cpu_capacity", capacities), ("cpufreq/cpuinfo_max_freq", frequencies)):
        for core, number in enumerate(numbers):
            path = root / f"sys/devices/system/cpu/cpu{core}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{number}\n")
    count = max(len(capacities), len(frequencies), 4)
    return run(program, root, str(threads), str(count)).split()


@pytest.mark.parametrize(
    ("threads", "cores"), [(1, ["4", "5"]), (2, ["4", "5"]), (3, ["all"]), (6, ["all"]), (8, ["all"])]
)
def test_the_big_cores_are_used_where_they_are_enough(program, tmp_path, threads, cores):
    assert fast(program, tmp_path, threads, BIG_LITTLE) == cores


def test_three_kinds_of_cores(program, tmp_path):
    assert fast(program, tmp_path, 3, [350, 350, 350, 350, 850, 850, 850, 1024]) == ["4", "5", "6", "7"]


def test_frequencies_count_where_there_are_no_capacities(program, tmp_path):
    frequencies = [3800000, 5000000, 5100000, 3800000]
    assert fast(program, tmp_path, 2, frequencies=frequencies) == ["1", "2"]


def test_cores_that_are_about_alike_or_unknown_are_all_used(program, tmp_path):
    assert fast(program, tmp_path / "alike", 1, frequencies=[4900000, 5000000, 5100000]) == ["all"]
    assert fast(program, tmp_path / "unknown", 1) == ["all"]
    assert fast(program, tmp_path / "garbage", 1, ["x", 1, 2, 3]) == ["all"]
