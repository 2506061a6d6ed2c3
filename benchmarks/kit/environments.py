"""A virtual environment for each contestant, built once.

An environment is ready when its ``ready.json`` is there, written last: one whose building was cut off is
built anew. (Building elsewhere and renaming would break the scripts in ``bin``, which name their interpreter.)
"""

import fcntl
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepack.base.files import sha256_json

LIMIT_S = 1200  # of building one
_failed: dict[Path, str] = {}  # in this process: what failed once is not tried for every group


class EnvironmentFailed(Exception):  # noqa: N818 - a result, listed with its reason
    """The environment cannot be built; the message says why."""


@dataclass(frozen=True)
class Environment:
    """An interpreter and what it can import."""

    python: Path
    packages: dict[str, str]  # installed distributions: version
    digest: str  # of the interpreter's version and the packages


def environment(name: str, requirements: Sequence[str], folder: Path) -> Environment:
    """The environment of contestant ``name``, below ``folder``; without requirements the running interpreter's.

    ``requirements`` are arguments of ``pip install``: pinned requirements, and options such as ``--no-deps``.

    Raises:
        EnvironmentFailed: pip could not install them, in its own words.
    """
    if not requirements:
        return _described(Path(sys.executable), _installed(Path(sys.executable)))
    wanted = {"python": platform.python_version(), "requirements": list(requirements)}
    home = folder / f"{name}-{sha256_json(wanted)[:12]}"
    python, ready = home / "bin" / "python", home / "ready.json"
    if home in _failed:
        raise EnvironmentFailed(_failed[home])
    folder.mkdir(parents=True, exist_ok=True)
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.is_file():
            shutil.rmtree(home, ignore_errors=True)
            _build(home, python, requirements)
            ready.write_text(json.dumps({**wanted, "packages": _installed(python)}, indent=2) + "\n")
    return _described(python, json.loads(ready.read_text())["packages"])


def _build(home: Path, python: Path, requirements: Sequence[str]) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--python", str(python)]
    try:
        _run([sys.executable, "-m", "venv", "--without-pip", str(home)])
        _run([*pip, "install", "--quiet", *requirements])
    except BaseException as error:
        shutil.rmtree(home, ignore_errors=True)
        if isinstance(error, EnvironmentFailed):
            _failed[home] = str(error)
        raise


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFailed(f"building its environment took more than {LIMIT_S} s") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-3:]
        raise EnvironmentFailed(" ".join(errors)[:600] or f"exit status {done.returncode}")
    return done.stdout


def _installed(python: Path) -> dict[str, str]:
    program = (
        "import importlib.metadata as m, json;"
        "print(json.dumps({d.metadata['Name']: d.version for d in m.distributions()}, sort_keys=True))"
    )
    packages: dict[str, str] = json.loads(_run([str(python), "-c", program]))
    return packages


def _described(python: Path, packages: dict[str, str]) -> Environment:
    return Environment(
        python, packages, sha256_json({"python": platform.python_version(), "packages": packages})
    )
