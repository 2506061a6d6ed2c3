"""Ctrl-C is deferred to a safe point, a second one is not, and the previous handler is restored."""

import os
import signal
import threading

import pytest

from edgepack.base.interrupt import defer_interrupt
from edgepack.errors import Interrupted, UnreachableError


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_it_is_raised_where_it_is_checked():
    reached = False
    with pytest.raises(KeyboardInterrupt), defer_interrupt() as interrupt_point:
        interrupt_point()
        interrupt()
        reached = True
        interrupt_point()
        pytest.fail("went on after the safe point")
    assert reached


def test_it_is_raised_at_the_end_if_it_was_not_checked():
    with pytest.raises(KeyboardInterrupt), defer_interrupt():
        interrupt()


def test_the_second_one_is_raised_immediately():
    with pytest.raises(KeyboardInterrupt), defer_interrupt():
        interrupt()
        interrupt()
        pytest.fail("went on after the second one")


def test_what_fails_after_it_fails_by_it():
    with pytest.raises(KeyboardInterrupt), defer_interrupt():
        interrupt()
        raise UnreachableError("the agent was interrupted, too")
    with pytest.raises(UnreachableError), defer_interrupt():
        raise UnreachableError("nobody interrupted")


def test_an_interrupted_error_is_not_replaced():
    with pytest.raises(Interrupted, match="tuning"), defer_interrupt():
        interrupt()
        raise Interrupted("tuning was interrupted")


def test_the_previous_handler_is_restored():
    before = signal.getsignal(signal.SIGINT)
    with defer_interrupt():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_in_another_thread_nothing_changes():
    seen = []

    def work():
        with defer_interrupt() as interrupt_point:
            interrupt_point()
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
