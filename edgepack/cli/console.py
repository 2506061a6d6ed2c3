"""Terminal output: results on stdout, progress and errors on stderr; honours NO_COLOR and non-terminals.

All commands print through this module, which shows characters that a terminal would obey as escapes: names and messages
may come from a model, a bundle or a board.
"""

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any, TextIO

import click
from pydantic_core import to_jsonable_python

from edgepack.base.interrupt import Terminated
from edgepack.base.text import human_size, one_line, visible
from edgepack.errors import EdgepackError, Interrupted, UsageError
from edgepack.spec.encoding import DENSE, ConstantSummary

if TYPE_CHECKING:
    from edgepack.spec.memory import MemoryPlan


def say(line: str, *, err: bool = False) -> None:
    """Print one line on stdout, or on stderr; a newline in it is shown as an escape."""
    if err:
        click.echo(one_line(line), err=True)
        return
    with _to_stdout():
        click.echo(one_line(line))


@contextmanager
def _to_stdout() -> Iterator[None]:
    """In the block, report that stdout cannot be written to; a closed pipe is left to :func:`guard`."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise EdgepackError(
            "the result cannot be written",
            where="standard output",
            why=(error.strerror or str(error)).lower(),
            next="free space where it is redirected to",
        ) from error


def emit_json(document: dict[str, Any]) -> None:
    """Print one JSON document on stdout; its values may be models, dataclasses and paths."""
    with _to_stdout():
        sys.stdout.write(json.dumps(to_jsonable_python(document), indent=2) + "\n")
        sys.stdout.flush()  # raises BrokenPipeError here rather than at interpreter exit


def describe_constants(constants: Sequence[ConstantSummary]) -> list[str]:
    """Describe a model's weights, one line per encoding: count, size, and where they are decoded."""
    when = {
        "build": "stored decoded",
        "install": "decoded when installed",
        "load": "decoded when loaded",
        "kernel": "decoded in the kernels",
    }
    lines = []
    for some in constants:
        stored, resident = human_size(some.stored_bytes), human_size(some.resident_bytes)
        size = stored if stored == resident else f"{stored}, {resident} in memory"
        how = "" if some.encoding == DENSE else f", {when[some.decoded]}"
        lines.append(f"{some.count} {some.encoding}, {size}{how}")
    return lines


def describe_execution(executor: str, reason: str | None, memory: "MemoryPlan | None") -> list[str]:
    """Describe what runs a model on the board: the executor, why it is not the model's own runtime, and its memory."""
    lines = [f"{executor}{'' if reason is None else f': {reason}'}"]
    if memory is not None:
        sizes = [human_size(each) for each in (memory.weights, memory.arena, memory.workspace)]
        over = "" if memory.arena == memory.arena_least else f" (at least {human_size(memory.arena_least)})"
        lines.append(f"{sizes[0]} of weights, {sizes[1]} of arena{over}, {sizes[2]} for each thread")
    return lines


def show_error(error: EdgepackError, *, as_json: bool) -> None:
    """Print an error on stderr and, if ``as_json``, also as a JSON document on stdout."""
    if as_json:
        with suppress(EdgepackError, OSError):  # then only on stderr
            emit_json({"edgepack": 1, "error": error.to_json()})
    with suppress(OSError):  # a terminal that is gone: the exit code remains
        show_rendered(error.render())


def show_rendered(text: str) -> None:
    """Print a rendered error on stderr, with the word ``error`` in red on a terminal."""
    text = visible(text)
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        text = text.replace("error:", click.style("error:", fg="red", bold=True), 1)
    click.echo(text, err=True)


class _Verbatim(io.StringIO):
    """Text as click would write it on a terminal; elsewhere it removes the sequences that are to be shown."""

    def isatty(self) -> bool:
        return True


def guard(command: Callable[[], Any], *, as_json: bool) -> int:
    """Run a command; convert any exception into a message and an exit code."""
    try:
        result = command()
        with _to_stdout():
            sys.stdout.flush()
    except EdgepackError as error:
        show_error(error, as_json=as_json)
        return error.exit_code
    except click.ClickException as error:
        if as_json:
            emit_json({"edgepack": 1, "error": UsageError(error.format_message()).to_json()})
        usage = _Verbatim()
        error.show(usage)
        said = error.format_message()
        click.echo(visible(usage.getvalue().replace(said, one_line(said))), err=True, nl=False)
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        by = error if isinstance(error, KeyboardInterrupt) else error.__cause__
        how = f"ended by {by}" if isinstance(by, Terminated) else "interrupted"
        show_error(Interrupted(how, state="completed stages are kept"), as_json=as_json)
        return Interrupted.exit_code
    except BrokenPipeError:
        # The reader of stdout closed the pipe (`edgepack targets | head`): not an error.
        _discard(sys.stdout)
        return 0
    except (GeneratorExit, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a defect, or a panic in Rust, is reported with a crash log
        from edgepack.base.crash import as_error

        defect = as_error(error)
        show_error(defect, as_json=as_json)
        return defect.exit_code
    finally:
        _flush()
    return result if isinstance(result, int) else 0


def _flush() -> None:
    """Flush the streams; what fails was said if it could be, and the interpreter must not say it again at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _discard(stream)


def _discard(stream: TextIO) -> None:
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def progress() -> Iterator[Callable[[Any], None]]:
    """Yield a listener for the run's events: a live display on a terminal, one line per event otherwise.

    Output that user code and libraries print on stdout is redirected to stderr; stdout is for the result.
    """
    from edgepack.cli.live import LiveListener, PlainListener

    with redirect_stdout(sys.stderr):
        if sys.stderr.isatty():
            with LiveListener() as listener:
                yield listener
        else:
            yield PlainListener(sys.stderr)
