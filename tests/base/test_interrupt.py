"""Ctrl-C is deferred to a safe point, a second one is not, and the previous handler is restored."""

import os
import pty
import signal
import subprocess
import sys
import threading

import pytest

from edgepack.base.interrupt import Terminated, defer_interrupt, terminable
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_termination_is_an_interrupt_once(number):
    cleaned = False
    with pytest.raises(Terminated) as caught, terminable():
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned = True
    assert caught.value.number == number
    assert cleaned
    assert signal.getsignal(number) is signal.SIG_DFL


def test_termination_is_deferred_like_an_interrupt():
    reached = False
    with pytest.raises(Terminated), terminable(), defer_interrupt() as interrupt_point:
        os.kill(os.getpid(), signal.SIGTERM)
        reached = True
        interrupt_point()
        pytest.fail("went on after the safe point")
    assert reached


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminable(), defer_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_a_forked_process_ends_at_once():
    with terminable():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


_ON_A_TERMINAL = """
import fcntl, sys, termios, time
from pathlib import Path
from edgepack.base.interrupt import Terminated, terminable
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
try:
    with terminable():
        print("ready", flush=True)
        time.sleep(60)
except Terminated as ended:
    print(f"ended by {ended}", flush=True)
    print("said", file=sys.stderr, flush=True)
    Path(sys.argv[1]).write_text("cleaned up")
"""


def test_a_terminal_that_is_closed_does_not_disturb_the_cleaning_up(tmp_path):
    terminal, end = pty.openpty()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", _ON_A_TERMINAL, str(tmp_path / "done")]
    with subprocess.Popen(
        argv, stdin=end, stdout=end, stderr=end, start_new_session=True, env=environment
    ) as process:
        os.close(end)
        assert os.read(terminal, 100).strip() == b"ready"
        os.close(terminal)
    assert process.returncode == 0
    assert (tmp_path / "done").read_text() == "cleaned up"
