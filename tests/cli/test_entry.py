"""The entry of the command line: Ctrl-C exits with 130 from the first import to the end of the process."""

import json
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
