"""What the benchmarks' command lines share: the parser, numbers with bounds, lists of names, and the way they end."""

import argparse
import contextlib
import math
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from edgepack.base.text import suggestion
from edgepack.errors import EdgepackError, UsageError


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """For ``python -m benchmarks.NAME``."""
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def above(limit: float) -> Callable[[str], float]:
    """A finite number above ``limit``, as the type of an argument."""
    return _number(float, f"a number above {limit:g}", lambda value: limit < value < math.inf)


def at_least(limit: float) -> Callable[[str], float]:
    """A finite number, ``limit`` or more."""
    return _number(float, f"a number, {limit:g} or more", lambda value: limit <= value < math.inf)


def whole(least: int) -> Callable[[str], int]:
    """A whole number, ``least`` or more."""
    return _number(int, f"a whole number, {least} or more", lambda value: value >= least)


def pattern(text: str) -> str:
    """A regular expression, as the type of an argument."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from error
    return text


def _number(kind: type, wanted: str, fits: Callable[[Any], bool]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        with contextlib.suppress(ValueError):
            value = kind(text)
            if fits(value):
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")

    return parse


def chosen(text: str, known: Sequence[str], what: str) -> list[str]:
    """The names in ``text``, with commas between, in the order of ``known``; all where it names none.

    Raises:
        UsageError: There is no such name.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = sorted(set(names) - set(known))
    if unknown:
        otherwise = f"choose from {', '.join(known)}"
        raise UsageError(
            f"unknown {what}: {', '.join(unknown)}",
            where=f"--{what}",
            next=suggestion(unknown[0], known, otherwise=otherwise),
        )
    return [name for name in known if name in names] if names else list(known)


def finish(program: Callable[[], int | None]) -> int:
    """Run a benchmark to its exit code; an error of edgepack's is told without a traceback."""
    try:
        return program() or 0
    except EdgepackError as error:
        print(error.render(), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; results that were done are saved", file=sys.stderr)
        return 130
