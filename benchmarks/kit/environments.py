"""A virtual environment per contestant, built once.

An environment is complete when its ``ready.json`` exists, which is written last: an incomplete one is
rebuilt. (Building elsewhere and renaming would break the scripts in ``bin``, which contain the interpreter's path.)
"""

import fcntl
import json
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kit.processes import SAID, ProcessFailed, run
from edgepack.base.files import sha256_json

LIMIT_S = 1200  # time limit for building one
_failed: dict[Path, str] = {}  # failures in this process, not retried for every group
_INSTALLED = """\
import importlib.metadata as m, json
print(json.dumps({d.metadata['Name']: d.version for d in m.distributions()}, sort_keys=True))
"""


class EnvironmentFailed(Exception):  # noqa: N818 - a result, listed with its reason
    """The environment cannot be built; the message says why."""


@dataclass(frozen=True)
class Environment:
    """An interpreter and its installed packages."""

    python: Path
    packages: dict[str, str]  # installed distributions: version

    @property
    def digest(self) -> str:
        """Digest of the interpreter's version and the packages."""
        return sha256_json({"python": platform.python_version(), "packages": self.packages})


def environment(name: str, requirements: Sequence[str], folder: Path) -> Environment:
    """Return the environment of contestant ``name`` in ``folder``; without requirements, the running interpreter's.

    ``requirements`` are arguments of ``pip install``: pinned requirements, and options such as ``--no-deps``.

    Raises:
        EnvironmentFailed: pip could not install them; the message is its output.
    """
    if not requirements:
        return Environment(Path(sys.executable), _list_installed(Path(sys.executable)))
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
            ready.write_text(json.dumps({**wanted, "packages": _list_installed(python)}, indent=2) + "\n")
    return Environment(python, json.loads(ready.read_text())["packages"])


def _build(home: Path, python: Path, requirements: Sequence[str]) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--python", python]
    try:
        run([sys.executable, "-m", "venv", "--without-pip", home], timeout_s=LIMIT_S)
        run([*pip, "install", "--quiet", *requirements], timeout_s=LIMIT_S)
    except BaseException as error:
        shutil.rmtree(home, ignore_errors=True)
        if isinstance(error, ProcessFailed):
            lines = [line for line in error.said.splitlines() if line.strip()]
            words = " ".join([line for line in lines if line.startswith("ERROR")] or lines[-3:])
            _failed[home] = words[:SAID] or f"building its environment: {error.how}"
            raise EnvironmentFailed(_failed[home]) from error
        raise


def _list_installed(python: Path) -> dict[str, str]:
    return json.loads(run([python, "-c", _INSTALLED]))
