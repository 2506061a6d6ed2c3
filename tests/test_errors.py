"""What a Python program shows of an error that it does not catch."""

import traceback

import pytest

from edgepack.errors import ConfigError, EdgepackError, InputError, Problem


@pytest.mark.parametrize(
    "error",
    [
        EdgepackError("it failed"),
        InputError("cannot be used", where="net.onnx", why="no outputs:\n- a\n- b", next="export it again"),
        ConfigError([Problem("r.yaml", 1, 1, "unknown key"), Problem("r.yaml", 2, 1, "missing key")]),
    ],
)
def test_a_traceback_shows_what_the_command_line_shows(error):
    shown = "".join(traceback.format_exception_only(error))
    assert shown.endswith(f": {error.message}\n{error.render()}\n")


def test_notes_of_other_tools_follow():
    error = EdgepackError("it failed", why="no network")
    error.add_note("while testing")
    shown = "".join(traceback.format_exception_only(error)).splitlines()
    assert shown[1:] == ["error: it failed", "  why: no network", "while testing"]
