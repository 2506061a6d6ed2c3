"""Files from pinned wheels: downloaded with pip, verified, unpacked and never installed."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepack.base.temporary import temporary_folder
from edgepack.errors import EdgepackError, IntegrityError


@dataclass(frozen=True)
class Wheel:
    """A file on PyPI."""

    requirement: str
    filename: str
    sha256: str
    platform: str


def unpack_wheel(wheel: Wheel, members: Sequence[str], folder: Path) -> None:
    """Download a wheel, verify it, and write these of its files to ``folder``, under the last part of their names.

    Each file is written atomically, since another process may do the same.

    Raises:
        IntegrityError: The wheel is not the pinned one.
        EdgepackError: It cannot be downloaded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder, "download-") as temporary:
        path = _download(wheel, temporary)
        if sha256_of(path) != wheel.sha256:
            raise IntegrityError(
                f"{wheel.filename} is not the pinned wheel",
                where=str(path),
                why=f"its sha256 is not {wheel.sha256}",
                state="the download was discarded",
                next="check the package index that pip is configured to use",
            )
        with zipfile.ZipFile(path) as archive:
            for member in members:
                unpacked = temporary / member.rpartition("/")[2]
                with archive.open(member) as source, unpacked.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
                os.replace(unpacked, folder / unpacked.name)  # noqa: PTH105 - atomic


def sha256_of(path: Path) -> str:
    """Return the hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(wheel: Wheel, folder: Path) -> Path:
    # The interpreter version only selects the file: its libraries are used, not its Python modules.
    selection = ["--python-version", "3.11", "--platform", wheel.platform]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    argv = [sys.executable, "-m", "pip", "download", *quiet, "--no-deps", "--only-binary=:all:"]
    done = subprocess.run(
        [*argv, *selection, "--dest", str(folder), wheel.requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    path = folder / wheel.filename
    if done.returncode != 0 or not path.is_file():
        raise EdgepackError(
            f"cannot download {wheel.filename}",
            why=done.stderr.strip()[-400:] or "pip chose another file",
            state="nothing was changed",
            next="connect this machine to a package index once; what it needs is then kept for offline use",
        )
    return path
