"""The entry of ``edgepack`` and ``python -m edgepack``: Ctrl-C is handled before the rest of edgepack is imported."""

import _signal as signal  # type: ignore[import-not-found] # signal itself imports enum, 10 ms without a handler
import atexit
import os
import sys

INTERRUPTED = 130
_ended_with: list[object] = []


def main() -> None:
    """Run the command line and exit with its exit code; Ctrl-C exits with 130 at any moment."""
    for name in ("stdout", "stderr"):
        if (
            getattr(sys, name) is None
        ):  # closed by the caller: the first files to be opened would get its number
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 - until the process ends, without pathlib
    handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else ignored, as under nohup
    if handled:
        signal.signal(signal.SIGINT, _stop)
    atexit.register(_leave)
    from edgepack.base.native import divert
    from edgepack.cli import main as command

    divert()
    try:
        if handled:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        command()
    except KeyboardInterrupt:
        _stop()
    except SystemExit as end:
        _ended_with.append(end.code)
        raise
    finally:
        # The result is there; a Ctrl-C while the interpreter is torn down must not replace it by a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _stop(_number: int = 0, _frame: object = None) -> None:
    """End the process at once: nothing was begun, and an exception in an import could be swallowed or replaced."""
    if "--json" in sys.argv:
        os.write(
            sys.stdout.fileno(),
            b'{"edgepack": 1, "error": {"type": "Interrupted", "message": "interrupted", "exit_code": 130}}\n',
        )
    os.write(sys.stderr.fileno(), b"error: interrupted\n")
    os._exit(INTERRUPTED)


def _leave() -> None:
    """Keep the exit code 130: Python kills itself with SIGINT instead where Ctrl-C hit code in a string given to exec."""
    if _ended_with == [INTERRUPTED]:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
