"""The entry of the command line: Ctrl-C exits with 130 from the first import to the end of the process."""

import json
import os
import subprocess
import sys

import pytest

# Ctrl-C while a module is imported, as early as edgepack imports it.
WHILE_IMPORTING = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class Interrupt(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except BaseException:  # as libraries do around imports of what may be missing
                pass

sys.meta_path.insert(0, Interrupt())
sys.argv[1:] = {args!r}
from edgepack.__main__ import main
main()
"""
IN_A_COMMAND = """
import sys
from edgepack import api
from edgepack.__main__ import main

api.targets = lambda: exec("raise KeyboardInterrupt")
sys.argv[1:] = ["targets"]
main()
"""
AT_THE_END = """
import atexit, os, signal, sys

atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
from edgepack.__main__ import main
sys.argv[1:] = ["--version"]
main()
"""
IGNORED = """
import os, signal, sys

signal.signal(signal.SIGINT, signal.SIG_IGN)
from edgepack import api
from edgepack.__main__ import main

api.targets = lambda: os.kill(os.getpid(), signal.SIGINT) or []
sys.argv[1:] = ["targets", "--json"]
main()
"""


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", ["click", "pydantic", "edgepack.api", "edgepack.cli.console"])
def test_ctrl_c_while_edgepack_is_imported(module):
    done = python(WHILE_IMPORTING.format(module=module, args=["check", "recipe.yaml", "--json"]))
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")
    assert json.loads(done.stdout)["error"]["exit_code"] == 130
    assert python(WHILE_IMPORTING.format(module=module, args=["targets"])).stdout == ""


def test_ctrl_c_in_code_given_to_exec():
    """dataclasses and namedtuple do that; Python would then end by SIGINT whatever the exit code is."""
    done = python(IN_A_COMMAND)
    assert done.returncode == 130
    assert "error: interrupted" in done.stderr


def test_ctrl_c_after_the_result_changes_nothing():
    done = python(AT_THE_END)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("edgepack, version")


def test_where_ctrl_c_is_ignored_it_stays_ignored():
    """As under nohup, and in a shell script's background."""
    done = python(IGNORED)
    assert done.returncode == 0, done.stderr


def test_nothing_slow_is_imported_before_ctrl_c_is_handled():
    code = (
        "import sys; old = set(sys.modules); import edgepack.__main__; print(*sorted(set(sys.modules) - old))"
    )
    assert set(python(code).stdout.split()) <= {"edgepack", "edgepack.__main__", "atexit", "_signal"}


FROM_C = """
import ctypes, os, subprocess, sys
from edgepack.base.native import divert

divert()
ctypes.CDLL(None).puts(b"C says")
ctypes.CDLL(None).fflush(None)
os.write(2, b"C warns\\n")
subprocess.run(["sh", "-c", "echo a child warns >&2"])
print("the result \\udc80")
print("an error", file=sys.stderr)
"""


def test_what_c_writes_is_in_a_log_and_not_on_the_terminal(tmp_path):
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", FROM_C], capture_output=True, text=True, check=True, env=environment
    )
    assert (done.stdout, done.stderr) == ("the result \\udc80\n", "an error\n")
    (log,) = (tmp_path / "edgepack/logs").iterdir()
    assert log.read_text() == "C says\nC warns\na child warns\n"


def test_a_process_with_nothing_to_log_leaves_no_file_and_needs_none(tmp_path):
    for state in (tmp_path, tmp_path / "file"):
        (tmp_path / "file").write_text("")
        environment = {**os.environ, "XDG_STATE_HOME": str(state)}
        done = subprocess.run(
            [sys.executable, "-m", "edgepack", "--version"],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        assert done.stdout.startswith("edgepack, version")
        assert done.stderr == ""
    assert not list((tmp_path / "edgepack/logs").iterdir())
