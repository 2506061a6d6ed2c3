import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.reporting import format as fmt


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (1.2345, "1.23"), (12.345, "12.3"), (123.45, "123"), (1234.5, "1,230"), (0.01234, "0.0123"),
     (9.999, "10.0"), (0.00001234, "1.23e-05"), (2e12, "2.00e+12"), (-1.2345, "-1.23"), (99.96, "100")],
)  # fmt: skip
def test_significant(value, shown):
    assert fmt.significant(value) == shown


@given(st.floats(1e-12, 1e15))
def test_three_digits_are_within_half_a_percent(value):
    assert float(fmt.significant(value).replace(",", "")) == pytest.approx(value, rel=0.0051)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (999_499, "999 kB"), (999_500, "1.00 MB"), (5_300_000, "5.30 MB"),
     (7.2e12, "7,200 GB")],
)  # fmt: skip
def test_size(value, shown):
    assert fmt.size(value).replace("\u00a0", " ") == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.44, "0.4 s"), (59.99, "60.0 s"), (200, "3 min 20 s"), (3900, "1 h 05 min")]
)
def test_duration(value, shown):
    assert fmt.duration(value).replace("\u00a0", " ") == shown


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (4, 1, f"4.00{fmt.TIMES} smaller"),
        (1, 2, f"2.00{fmt.TIMES} larger"),
        (1, 1.001, "same"),
        (0, 1, "—"),
        (1, 0, "—"),
    ],
)
def test_ratio(before, after, shown):
    assert fmt.ratio(before, after, smaller="smaller", larger="larger") == shown


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [(0.98, 0.95, f"{fmt.MINUS}3.00 pt"), (0.9, 0.91, "+1.00 pt"), (0.9, 0.90001, "same")],
)
def test_points(before, after, shown):
    assert fmt.points(before, after).replace("\u00a0", " ") == shown


def test_weights_by_encoding_the_largest_first():
    assert fmt.encodings({"dense": 96, "int8": 33_900}) == f"33.9{fmt.THIN}kB int8, 96{fmt.THIN}B dense"
    assert fmt.encodings({}) == fmt.DASH
