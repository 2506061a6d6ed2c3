"""Programs of the system that tests need."""

import os
import shutil

import pytest


def need(program, package):
    """The path of a system program; if it is missing, the test is skipped, and fails in CI."""
    found = shutil.which(program)
    if found is None:
        message = f"needs {program}: apt-get install {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found
