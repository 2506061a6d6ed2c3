"""Ctrl-C while Python runs inside C++: checked at safe points instead of raised anywhere.

A KeyboardInterrupt raised in one of the callbacks TVM makes into Python crosses C++ frames that do not expect
it, and the process dies with std::terminate. Inside :func:`defer_interrupt` the first Ctrl-C only sets a flag, which
the caller checks between two steps; a second one is raised immediately.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from edgepack.errors import Interrupted


@contextmanager
def defer_interrupt() -> Iterator[Callable[[], None]]:
    """Defer Ctrl-C; yields a function that raises KeyboardInterrupt if Ctrl-C was pressed.

    It is raised at the end of the block at the latest. Outside the main thread, where no handler can be set,
    nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    asked = False

    def note(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            signal.default_int_handler(number, frame)
        asked = True

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield check
        check()
    except Interrupted:
        raise
    except Exception as error:
        if asked:  # the terminal sends Ctrl-C to child processes, too, so an exception after it is often caused by it
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)
