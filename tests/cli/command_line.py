"""The command line as its users run it: in a process of its own, with directories of its own."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgepack.base.paths import cache_dir

# Rebuildable and slow to make: shared with every other test. The artifact store is not.
SHARED = ("agent", "gpu", "runtime", "virtual")
TIMEOUT_S = 540


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@dataclass
class Cli:
    """Runs edgepack; ``folder`` is the working directory, ``home`` holds everything edgepack keeps."""

    folder: Path
    home: Path
    environment: dict = field(default_factory=dict)

    @property
    def env(self):
        kinds = {
            f"XDG_{kind}_HOME": str(self.home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA", "STATE")
        }
        return {**os.environ, **kinds, "HOME": str(self.home), **self.environment}

    def __call__(self, *args, **options):
        done = subprocess.run(self.argv(*args), check=False, timeout=TIMEOUT_S, **self.options(), **options)
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *args):
        return subprocess.Popen(self.argv(*args), **self.options())

    def argv(self, *args):
        return [sys.executable, "-m", "edgepack", *map(str, args)]

    def options(self):
        return {
            "cwd": self.folder,
            "env": self.env,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
        }

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def devices(self, text):
        folder = self.home / "config" / "edgepack"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "devices.yaml").write_text(text)


def make_cli(root):
    for name in ("work", "home/.ssh", "home/cache/edgepack"):
        (root / name).mkdir(parents=True)
    for name in SHARED:
        shared = cache_dir() / name
        shared.mkdir(parents=True, exist_ok=True)
        (root / "home/cache/edgepack" / name).symlink_to(shared)
    return Cli(root / "work", root / "home")


def lacking(*programs):
    """Skip, or fail under CI, where a program is missing."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    missing = [name for name in programs if shutil.which(name, path=path) is None]
    if os.geteuid() != 0:
        missing.append("root")
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"missing: {', '.join(missing)}")
    if missing:
        pytest.skip(f"missing: {', '.join(missing)}")
