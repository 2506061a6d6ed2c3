"""The worker's side: JSON commands, one per line, each with one answer. Runs in any environment: only Python.

An answer is ``{"ok": …}`` or ``{"error": …}``, on the original stdout. Prints of libraries are redirected to
stderr, and their stdin is empty.
"""

import ctypes
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any, TextIO

_LONGEST = 4000  # maximum characters of an exception's message
_PR_SET_PDEATHSIG = 1


def serve(make: Callable[[], Any]) -> None:
    """Answer commands until stdin ends: ``do`` names the method of the object returned by ``make``; it gets the command.

    The object is created at the first command, so that exceptions are reported as answers. An exception class may
    set ``kind = "unsupported"`` to indicate that it is not a failure.
    """
    commands, answers = pipes()
    end_with_parent()
    served = None
    for line in commands:
        try:
            command = json.loads(line)
            served = served or make()
            answer = {"ok": getattr(served, command["do"])(command)}
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a library raises is the answer
            answer = {"error": _describe_error(error)}
        answers.write(json.dumps(answer, default=str) + "\n")


def pipes() -> tuple[TextIO, TextIO]:
    """Return the streams for commands and answers, and redirect all other input and output."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    commands = os.fdopen(os.dup(0))
    with open(os.devnull) as nothing:  # noqa: PTH123 - a descriptor is wanted
        os.dup2(nothing.fileno(), 0)
    return commands, answers


def end_with_parent() -> None:
    """Terminate this process when its parent ends, and make it the first candidate when memory runs out."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    with open("/proc/self/oom_score_adj", "w") as score:  # noqa: PTH123 - pathlib would be imported for it
        score.write("1000")


def time_calls(infer: Callable[[], object], runs: int) -> list[int]:
    """Return nanoseconds of each of ``runs`` calls."""
    clock = time.perf_counter_ns
    samples = []
    for _ in range(runs):
        start = clock()
        infer()
        samples.append(clock() - start)
    return samples


def _describe_error(error: BaseException) -> dict[str, str]:
    import traceback

    traceback.print_exception(error)  # to stderr, which is kept
    kind = getattr(error, "kind", "failed")
    words = str(error).strip()
    if kind == "failed":
        words = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return {"kind": kind, "words": words[:_LONGEST]}
