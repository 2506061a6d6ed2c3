"""Ctrl-C, SIGTERM and SIGHUP: all end a command in the same way, so that it cleans up after itself.

While Python runs inside C++, they are checked at safe points instead of raised anywhere. A KeyboardInterrupt raised in one of the callbacks TVM makes into Python crosses C++ frames that do not expect
it, and the process dies with std::terminate. Inside :func:`defer_interrupt` the first Ctrl-C only sets a flag, which
the caller checks between two steps; a second one is raised immediately.
"""

import os
import signal
import stat
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from edgepack.errors import Interrupted

_ENDING = (signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, whose number is ``number``."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def _leave_dead_terminal() -> None:
    """Let output go nowhere if it goes to a terminal that is gone, as it is after SIGHUP: printing would fail."""
    for descriptor in (1, 2):
        with suppress(OSError):
            if not stat.S_ISCHR(os.fstat(descriptor).st_mode):
                continue
            try:
                termios.tcgetattr(descriptor)
            except termios.error:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


def _nothing(_number: int, _frame: Any) -> None:
    """Do nothing; unlike SIG_IGN, this is not inherited by programs that are started."""


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise :class:`Terminated` in the main thread, where they would end the process at once.

    The first one counts: a second one does not disturb the cleaning up. A signal that is ignored, as SIGHUP is under
    nohup, stays so, and processes that are forked in the block have their default again.
    """
    pid = os.getpid()
    handled = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]

    def stop(number: int, _: Any) -> None:
        for each in handled:
            signal.signal(each, _nothing)
        _leave_dead_terminal()
        raise Terminated(number)

    def reset() -> None:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)

    os.register_at_fork(after_in_child=reset)
    for number in handled:
        signal.signal(number, stop)
    try:
        yield
    finally:
        if os.getpid() == pid:
            reset()


@contextmanager
def defer_interrupt() -> Iterator[Callable[[], None]]:
    """Defer Ctrl-C, SIGTERM and SIGHUP; yields a function that raises KeyboardInterrupt if one of them arrived.

    It is raised at the end of the block at the latest. Outside the main thread, where no handler can be set,
    nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    asked: list[KeyboardInterrupt] = []

    def note(number: int, _: Any) -> None:
        asked.append(KeyboardInterrupt() if number == signal.SIGINT else Terminated(number))
        if len(asked) > 1:
            raise asked[-1]

    def check() -> None:
        if asked:
            raise asked[0]

    deferred = [signal.SIGINT, *(number for number in _ENDING if callable(signal.getsignal(number)))]
    before = {number: signal.signal(number, note) for number in deferred}
    try:
        yield check
        check()
    except Interrupted:
        raise
    except Exception as error:
        if asked:  # the terminal sends Ctrl-C to child processes, too, so an exception after it is often caused by it
            raise asked[0] from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
