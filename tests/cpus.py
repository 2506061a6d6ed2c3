"""Kinds of x86-64 CPU on any x86-64 machine: a Python program, run as it is here or in an emulated CPU.

``native`` is the machine's own CPU. The others are qemu's: ``Haswell`` has AVX2 and no VNNI, ``Nehalem`` SSE4.2 and no AVX.
qemu 7.2 does not emulate AVX-512.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EMULATED = ("Haswell", "Nehalem")
KINDS = ("native", *EMULATED)
QEMU = "qemu-x86_64-static"


def require(kind):
    """Skip, or fail under CI, where a kind cannot be emulated."""
    if kind == "native" or shutil.which(QEMU) is not None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"missing: {QEMU}")
    pytest.skip(f"missing: {QEMU}")


def command(kind, *argv):
    """The words that run a program of this architecture on a kind of CPU."""
    require(kind)
    if kind == "native":
        return [*argv]
    assert platform.machine() == "x86_64"
    # Past the links of a virtual environment: qemu opens the interpreter by itself.
    return [QEMU, "-cpu", kind, os.path.realpath(argv[0]), *argv[1:]]


def answer(kind, script, *words, timeout=300):
    """The JSON that a Python script prints last, run on a kind of CPU with this environment's packages."""
    folders = [str(Path(script).parent), *(path for path in sys.path if path)]
    done = subprocess.run(
        command(kind, sys.executable, str(script), *map(str, words)),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
