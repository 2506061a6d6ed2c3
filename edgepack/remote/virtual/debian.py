"""Unpack Debian packages into a folder, as any user: apt downloads and verifies them, and no script of theirs runs."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from edgepack.errors import UsageError
from edgepack.remote.virtual import programs

MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MERGED = ("bin", "lib", "sbin")  # of /usr, since Debian 12
_LAST_LINES = 4


def unpack(tree: Path, debian: str, suite: str, packages: Sequence[str], scratch: Path) -> None:
    """Unpack packages and all that they depend on into ``tree``.

    Args:
        tree: The folder; created. Its files belong to the current user, or as packaged if that is root.
        debian: Debian's name of the architecture.
        suite: Of the release, such as ``bookworm``.
        packages: Their names.
        scratch: An existing folder for downloads.

    Raises:
        UsageError: apt or dpkg is missing or failed; with its last lines of output.
    """
    if not KEYRING.exists():
        raise UsageError(
            "Debian's keys, with which packages are verified, are not installed",
            next="apt-get install debian-archive-keyring",
        )
    apt = [programs.find("apt-get", "apt"), *_options(scratch, debian, suite)]
    _run([*apt, "update"])
    _run([*apt, "install", "--yes", "--download-only", *packages])
    for name in _MERGED:
        (tree / "usr" / name).mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(f"usr/{name}")
    owner = [] if os.geteuid() == 0 else ["--no-same-owner", "--no-same-permissions"]
    tar = [programs.find("tar", "tar"), "-x", "-C", str(tree), "--keep-directory-symlink", *owner]
    dpkg = programs.find("dpkg-deb", "dpkg")
    for package in sorted((scratch / "archives").glob("*.deb")):
        with subprocess.Popen([dpkg, "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as files:
            _run(tar, stdin=files.stdout)
    shutil.rmtree(scratch / "archives")


def _options(scratch: Path, debian: str, suite: str) -> list[str]:
    """Options that keep apt away from the system's own packages and lists; proxies remain as configured."""
    for folder in ("lists/partial", "archives/partial"):
        (scratch / folder).mkdir(parents=True)
    (scratch / "status").touch()
    sources = scratch / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {MIRROR} {suite} main\n")
    values = {
        "Dir::State": scratch,
        "Dir::State::lists": scratch / "lists",
        "Dir::State::status": scratch / "status",
        "Dir::State::extended_states": scratch / "extended_states",
        "Dir::Cache": scratch,
        "Dir::Cache::archives": scratch / "archives",
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::Log": scratch,
        "APT::Architecture": debian,
        "APT::Architectures": debian,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
        "APT::Update::Error-Mode": "any",  # a mirror that cannot be reached is only a warning otherwise
        "Acquire::Languages": "none",
    }
    return ["-qq", *(f"-o{name}={value}" for name, value in values.items())]


def _run(command: list[str], *, stdin: IO[bytes] | None = None) -> None:
    given = subprocess.DEVNULL if stdin is None else stdin
    result = subprocess.run(command, stdin=given, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise UsageError(
            "the root file system of the emulated boards could not be built",
            where=Path(command[0]).name,
            why="\n".join((result.stderr + result.stdout).strip().splitlines()[-_LAST_LINES:]),
            state="the partial build was removed",
            next="check that this machine reaches deb.debian.org, directly or by apt's proxy, then retry",
        )
