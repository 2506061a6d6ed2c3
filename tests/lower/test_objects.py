"""Kernels are compiled in parts, on several cores; the result does not depend on how many."""

import os

from hypothesis import given
from hypothesis import strategies as st

from edgepack.config.target import load_target
from edgepack.lower import compile_model
from edgepack.lower.emit.objects import divide


@given(st.lists(st.integers(1, 10_000), max_size=60), st.integers(1, 9))
def test_parts_are_of_similar_size(sizes, count):
    named = {Named(f"kernel{number}"): size for number, size in enumerate(sizes)}
    parts = divide(named, count)
    assert sorted(var for part in parts for var in part) == sorted(named)
    assert len(parts) == min(count, len(sizes))
    totals = [sum(named[var] for var in part) for part in parts]
    if len(totals) > 1:
        assert max(totals) - min(totals) <= max(sizes)
    backwards = divide(dict(reversed(named.items())), count)
    assert parts == backwards


class Named(str):
    """A variable by its name."""

    __slots__ = ()

    @property
    def name_hint(self):
        return str(self)


def test_the_same_bytes_on_one_core_and_on_many(network, tmp_path, monkeypatch):
    target = load_target("x86-64-v3")
    files = []
    for cores in (1, 4):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid, cores=cores: set(range(cores)))
        files.append(compile_model(network, target, tmp_path / f"{cores}.so").path.read_bytes())
    assert files[0] == files[1]
