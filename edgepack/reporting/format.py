"""Formatting of numbers, the same in the terminal, Markdown and HTML."""

from collections.abc import Mapping

from edgepack.base.text import visible
from edgepack.spec import Score

MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
DASH = "\N{EM DASH}"
THIN = "\N{NO-BREAK SPACE}"

_MINUTE, _HOUR = 60, 3600
_ENTRIES, _TEXT = 6, 200  # limits for a method's metric: entries of a list, characters of a text


def six(value: float) -> str:
    """Up to six significant digits, for limits and the values compared with them."""
    return f"{value:,.6g}"


def significant(value: float, digits: int = 3) -> str:
    """``digits`` significant digits, without an exponent unless the number is very large or small."""
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e9:  # noqa: PLR2004 - beyond, an exponent reads better
        return f"{value:.{digits - 1}e}"
    rounded = float(f"{value:.{digits - 1}e}")
    whole = len(str(int(abs(rounded)))) if abs(rounded) >= 1 else 0
    if not whole:
        leading = -int(f"{abs(rounded):e}".partition("e")[2])
        return f"{rounded:.{leading + digits - 1}f}"
    return f"{rounded:,.{max(0, digits - whole)}f}"


def size(value: float) -> str:
    """Bytes in decimal units: ``5.30 MB``."""
    return _scaled(value, ("B", "kB", "MB", "GB"))


def encodings(stored: Mapping[str, int]) -> str:
    """Stored bytes by encoding, the largest first: ``5.10 kB int8, 2.00 kB dense``."""
    largest = sorted(stored.items(), key=lambda each: -each[1])
    return ", ".join(f"{size(value)} {name}" for name, value in largest) or DASH


def count(value: float) -> str:
    """A count: ``2.30 M``."""
    return _scaled(value, ("", "k", "M", "G"))


def _scaled(value: float, units: tuple[str, ...]) -> str:
    power = 0
    # 999.5 would be shown as 1,000 of the smaller unit.
    while value >= 999.5 and power < len(units) - 1:  # noqa: PLR2004 - decimal prefixes
        value /= 1000
        power += 1
    number = significant(value) if power else f"{value:.0f}"
    return f"{number}{THIN}{units[power]}" if units[power] else number


def milliseconds(value: float) -> str:
    """``1.23 ms``; in seconds from 10 s on."""
    if value >= 10_000:  # noqa: PLR2004 - 10 s in ms
        return f"{significant(value / 1000)}{THIN}s"
    return f"{significant(value)}{THIN}ms"


def percent(value: float) -> str:
    """A share 0..1: ``97.50 %``."""
    return f"{value * 100:.2f}{THIN}%"


def kib(value: float) -> str:
    """KiB as bytes in decimal units."""
    return size(value * 1024)


def plain(value: float) -> str:
    """A ratio such as parity, three significant digits."""
    return significant(value)


_TITLES = {
    "accuracy": "Accuracy", "top5": "Top-5 accuracy", "f1": "F1", "miou": "mIoU", "mse": "MSE", "mae": "MAE",
    "sqnr": "SQNR", "agreement": "Agreement with the source",
}  # fmt: skip


_LONG = 1e5  # values of metrics from here are written with an exponent


def metric_title(name: str) -> str:
    """A metric's name as the title of a figure; a user's callable keeps its own."""
    return _TITLES.get(name, visible(name))


def score_value(score: Score, value: float) -> str:
    """A value of a score's metric: ``97.50 %``, ``31.2 dB``, ``0.0123``."""
    if score.is_share:
        return percent(value)
    shown = significant(value) if abs(value) < _LONG else f"{value:.3g}"
    return f"{shown}{THIN}dB" if score.metric == "sqnr" else shown


def interval(score: Score) -> str:
    """The 95 % interval: ``96.10 % to 98.44 %``; empty if there is none."""
    if score.low is None or score.high is None:
        return ""
    return f"{score_value(score, score.low)} to {score_value(score, score.high)}"


def score(found: Score) -> str:
    """A score with its 95 % interval."""
    ends = interval(found)
    return score_value(found, found.value) + (f" ({ends})" if ends else "")


def difference(before: Score, after: Score) -> str:
    """The change of a score: in points for shares, in the metric's unit otherwise."""
    if after.is_share:
        return points(before.value, after.value)
    change = after.value - before.value
    if abs(change) < abs(before.value) * 0.0005:
        return "same"
    return f"{'+' if change > 0 else MINUS}{score_value(after, abs(change))}"


def metric(value: object) -> str:
    """A metric of a compression method as text; long lists and mappings are truncated."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return six(value)
    if isinstance(value, Mapping):
        entries = [f"{name} {metric(each)}" for name, each in value.items()]
        return _first(entries, "; ")
    if isinstance(value, list | tuple):
        return _first([metric(each) for each in value], ", ")
    text = " ".join(visible(value).split())
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}\N{HORIZONTAL ELLIPSIS}"


def _first(entries: list[str], separator: str) -> str:
    more = len(entries) - _ENTRIES
    shown = separator.join(entries[:_ENTRIES]) or "none"
    return f"{shown}{separator}and {more} more" if more > 0 else shown


def duration(seconds: float) -> str:
    """``0.4 s``, ``3 min 20 s``, ``1 h 05 min``."""
    if seconds < _MINUTE:
        return f"{seconds:.1f}{THIN}s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // 60}{THIN}min {whole % 60:02}{THIN}s"
    return f"{whole // 3600}{THIN}h {whole % 3600 // 60:02}{THIN}min"


def ratio(before: float, after: float, *, smaller: str, larger: str) -> str:
    """Relative change: 3.9 times smaller; ``same`` within half a percent."""
    if not before or not after:
        return DASH
    factor = before / after
    if abs(factor - 1) < 0.005:  # noqa: PLR2004 - half a percent
        return "same"
    return f"{factor:.2f}{TIMES} {smaller}" if factor > 1 else f"{1 / factor:.2f}{TIMES} {larger}"


def points(before: float, after: float) -> str:
    """A difference of shares in percentage points: minus 0.28 pt."""
    change = (after - before) * 100
    if abs(change) < 0.005:  # noqa: PLR2004 - below what is shown
        return "same"
    return f"{'+' if change > 0 else MINUS}{abs(change):.2f}{THIN}pt"
