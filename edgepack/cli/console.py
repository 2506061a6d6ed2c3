"""The terminal: results on stdout, progress and errors on stderr, honouring NO_COLOR and non-terminals."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import click
from pydantic_core import to_jsonable_python

from edgepack.base.text import human_size
from edgepack.errors import EdgepackError, Interrupted, UsageError
from edgepack.spec.encoding import DENSE, ConstantSummary


def emit_json(document: dict[str, Any]) -> None:
    """Print one JSON document on stdout; its values may be models, dataclasses and paths."""
    sys.stdout.write(json.dumps(to_jsonable_python(document), indent=2) + "\n")
    sys.stdout.flush()  # a reader that went away is noticed here, and not at the interpreter's end


def constants_in_words(constants: Sequence[ConstantSummary]) -> list[str]:
    """A model's weights by encoding: where each is decoded, and what it takes."""
    when = {
        "build": "decoded on the build host",
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


def show_error(error: EdgepackError, *, as_json: bool) -> None:
    """The error on stderr for people, and as the one document on stdout when JSON was asked for."""
    if as_json:
        emit_json({"edgepack": 1, "error": error.to_json()})
    text = error.render()
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        text = text.replace("error:", click.style("error:", fg="red", bold=True), 1)
    sys.stderr.write(text + "\n")


def guard(command: Callable[[], Any], *, as_json: bool) -> int:
    """Run a command and turn whatever it raises into a message and an exit code."""
    try:
        result = command()
    except EdgepackError as error:
        show_error(error, as_json=as_json)
        return error.exit_code
    except click.ClickException as error:
        if as_json:
            emit_json({"edgepack": 1, "error": UsageError(error.format_message()).to_json()})
        error.show()
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        show_error(Interrupted("interrupted", state="whatever was finished is kept"), as_json=as_json)
        return Interrupted.exit_code
    except BrokenPipeError:
        # The reader of stdout went away (`edgepack targets | head`): that is not an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last line of defence: a defect becomes a report, not a traceback
        from edgepack.base.crash import as_error

        defect = as_error(error)
        show_error(defect, as_json=as_json)
        return defect.exit_code
    return result if isinstance(result, int) else 0


@contextmanager
def progress() -> Iterator[Callable[[Any], None]]:
    """A listener for the run's events: live lines on a terminal, one line an event elsewhere.

    What user code and libraries print meanwhile goes to stderr: stdout is for the result.
    """
    from edgepack.cli.live import LiveListener, PlainListener

    with redirect_stdout(sys.stderr):
        if sys.stderr.isatty():
            with LiveListener() as listener:
                yield listener
        else:
            yield PlainListener(sys.stderr)
