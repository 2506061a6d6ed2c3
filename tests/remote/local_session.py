"""A board that is a folder of this machine: scripts run in a shell here, without SSH, so that hundreds of deploys are fast.

The client can be killed at any of its steps, and `PATH` decides which tools the board has.
"""

import os
import platform
import shutil
import subprocess
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

from edgepack.agent.build import build_agent
from edgepack.bundle.manifest import Manifest
from edgepack.errors import UnreachableError
from edgepack.remote.session import Completed
from edgepack.remote.survey import survey
from edgepack.toolchain.zig import MUSL


class Killed(BaseException):
    """The client was killed: nothing that it would do afterwards reaches the board."""


class LocalProcess:
    """A command with its standard streams, as edgepack.remote.process.Process."""

    def __init__(self, argv: Sequence[str], session: "LocalSession") -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=pipe, env=session.environment, cwd=session.home, bufsize=0
        )
        self.stdin = self._process.stdin
        self.stderr = b""

    def readline(self, timeout: float | None = None) -> bytes:
        del timeout
        return self._process.stdout.readline()

    def wait(self, timeout: float | None = None) -> int:
        code = self._process.wait(timeout)
        self.stderr = self._process.stderr.read()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            stream.close()
        self._process.wait()


@cache
def _agent() -> Path:
    return build_agent(platform.machine(), MUSL)


class LocalSession:
    """A session whose commands run here.

    Args:
        home: The login directory.
        path: The board's PATH.
        die_at: The step at which the client is killed, counted from 1: commands, the two halves of a file.
        store: The agent's ``store``, if it is not the real one.
        faults: What goes wrong on the board (agent/store_faults.c), by the action of ``store`` in which it does.
    """

    name = "local"

    def __init__(
        self,
        home: Path,
        path: str | None = None,
        die_at: int | None = None,
        store: Path | None = None,
        faults: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home
        self.store = store
        self.faults = faults or {}
        self.environment = os.environ | {"PATH": path or os.environ["PATH"]}
        self.steps = 0
        self.die_at = die_at
        self.alive = True
        self._threads = threading.Lock()

    def _step(self) -> None:
        with self._threads:
            if not self.alive:
                raise UnreachableError("the connection was lost", where=self.name)
            self.steps += 1
            if self.steps == self.die_at:
                self.alive = False
                raise Killed

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float | None = None, check: bool = False
    ) -> Completed:
        self._step()
        fault = self.faults.get(argv[2]) if "store" in argv[1:2] else None
        if fault:
            argv = [str(self.store), *argv[1:]]
        done = subprocess.run(
            argv,
            input=stdin,
            timeout=timeout,
            check=check,
            capture_output=True,
            env=self.environment | ({"FAULT": fault} if fault else {}),
            cwd=self.home,
        )
        code = done.returncode
        return Completed(128 - code if code < 0 else code, done.stdout, done.stderr)

    def stream(self, argv: Sequence[str]) -> LocalProcess:
        self._step()
        return LocalProcess(argv, self)

    def agent(self) -> str:
        return str(_agent())

    def put(self, source: Path, dest: str, *, mode: int = 0o644, progress: object = None) -> None:
        self._step()
        target = self.home / dest
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
        data = source.read_bytes()
        part.write_bytes(data[: len(data) // 2])
        self._step()
        shutil.copyfile(source, part)
        part.chmod(mode)
        part.replace(target)
        if progress is not None:
            progress(len(data))

    def read(self, source: str) -> bytes | None:
        self._step()
        path = self.home / source
        return path.read_bytes() if path.exists() else None


@dataclass(frozen=True)
class Board:
    """A board with two releases, Z and A, which is current; B is deployed to copies of it."""

    bundles: dict[str, Path]  # by name; bad is one that does not work
    digests: dict[str, str]
    home: Path  # the login directory

    def copy(self, home: Path) -> Path:
        """A copy of the board; returns the release's folder on it."""
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(self.home, home, symlinks=True)
        return home / "edgepack/digits"


def works(home: Path, digests: dict[str, str]) -> None:
    """``current`` is a complete release, and a rollback has a target."""
    root = home / "edgepack/digits"
    manifest = Manifest.load(root / "current/manifest.json")
    assert manifest.digest in digests.values()
    assert str((root / "current").readlink()).startswith(f"releases/{manifest.digest}")
    for entry in manifest.files:
        assert (root / "current" / entry.path).stat().st_size == entry.size
    found = survey(LocalSession(home), "edgepack/digits")
    assert found.previous is not None
    assert found.previous.manifest is not None
