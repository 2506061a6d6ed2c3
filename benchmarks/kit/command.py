"""Shared code of the benchmarks' command lines: parser, bounded numbers, lists of names, exit codes."""

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
    """Return a parser for ``python -m benchmarks.NAME``."""
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def above(limit: float) -> Callable[[str], float]:
    """Argument type: a finite number greater than ``limit``."""
    return _number(float, f"a number greater than {limit:g}", lambda value: limit < value < math.inf)


def at_least(limit: float) -> Callable[[str], float]:
    """Argument type: a finite number of at least ``limit``."""
    return _number(float, f"a number of at least {limit:g}", lambda value: limit <= value < math.inf)


def whole(least: int) -> Callable[[str], int]:
    """Argument type: a whole number of at least ``least``."""
    return _number(int, f"a whole number of at least {least}", lambda value: value >= least)


def pattern(text: str) -> str:
    """Argument type: a regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {error}") from error
    return text


def _number(kind: type, wanted: str, fits: Callable[[Any], bool]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        with contextlib.suppress(ValueError):
            value = kind(text)
            if fits(value):
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")

    return parse


def parse_names(text: str, known: Sequence[str], what: str) -> list[str]:
    """Parse comma-separated names, in the order of ``known``; all if empty.

    Raises:
        UsageError: A name is unknown.
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
    """Run a benchmark and return its exit code; edgepack's errors are printed without a traceback."""
    try:
        return program() or 0
    except EdgepackError as error:
        print(error.render(), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; completed results are saved", file=sys.stderr)
        return 130
