"""The plan of an arena: buffers that are in use at once do not overlap, and it is hardly larger than it has to be."""

from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.lower.emit.aot.plan import ALIGNMENT, Lifetime, arena_of, end_of, least, plan
from edgepack.lower.emit.aot.program import Buffer, KernelCall


@st.composite
def lifetimes(draw):
    first = draw(st.integers(0, 30))
    return Lifetime(ALIGNMENT * draw(st.integers(1, 40)), first, first + draw(st.integers(0, 8)))


@given(buffers=st.lists(lifetimes(), max_size=25))
@settings(max_examples=200, deadline=None)
def test_what_is_in_use_at_once_does_not_overlap(buffers):
    offsets = plan(buffers)
    for number, (own, offset) in enumerate(zip(buffers, offsets, strict=True)):
        assert offset >= 0
        assert offset % ALIGNMENT == 0
        for other, place in zip(buffers[:number], offsets[:number], strict=True):
            apart = offset + own.size <= place or place + other.size <= offset
            assert apart or not own.overlaps(other)
    assert least(buffers) <= end_of(buffers, offsets) <= 1.25 * least(buffers) + ALIGNMENT
    assert plan(buffers) == offsets


def test_the_buffers_of_a_program_live_from_their_first_call_to_their_last():
    def arena(number, size):
        return Buffer("arena", number, size)

    x, y = Buffer("input", 0, 400), Buffer("output", 0, 400)
    calls = [
        KernelCall("a", (x, arena(0, 1000))),
        KernelCall("b", (arena(0, 1000), arena(1, 500))),
        KernelCall("c", (arena(1, 500), arena(2, 1024))),
        KernelCall("d", (arena(2, 1024), y)),
    ]
    found = arena_of(calls)
    assert found.size == found.least == 1024 + 512
    assert found.offsets[arena(0, 1000)] == found.offsets[arena(2, 1024)]
    assert set(found.offsets) == {arena(0, 1000), arena(1, 500), arena(2, 1024)}
    assert (arena_of([]).size, arena_of([]).least) == (0, 0)
