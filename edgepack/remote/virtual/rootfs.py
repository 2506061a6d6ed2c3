"""The root file system shared by emulated boards of an architecture and a suite: Debian packages, unpacked once and cached."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgepack.base.paths import cache_dir
from edgepack.errors import UsageError
from edgepack.remote.virtual import programs

DEBIAN = {"aarch64": "arm64", "x86_64": "amd64"}  # Debian's names of architectures
PACKAGES = (
    "base-files",
    "bash",
    "coreutils",
    "dash",
    "findutils",
    "grep",
    "gzip",
    "libc-bin",
    "libc6",
    "libgomp1",
    "libstdc++6",
    "mawk",
    "procps",
    "sed",
    "tar",
    "util-linux",
)
# Packages are unpacked without running their scripts, so accounts are defined here. "*" means no password, not locked.
USER = "edge"
_ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/bash\n"
    "sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"
    f"{USER}:x:1000:1000:{USER}:/home/{USER}:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": f"root:x:0:\ntty:x:5:\n{USER}:x:1000:\nnogroup:x:65534:\n",
    "shadow": f"root:*:19000::::::\nsshd:*:19000::::::\n{USER}:*:19000:0:99999:7:::\nnobody:*:19000::::::\n",
}
_UNUSED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/bash-completion",
)
_HOOKS = Path("/usr/share/mmdebstrap/hooks/merged-usr")
_LAYOUT = 1  # incremented when this file builds a different result from the same packages


def location(arch: str, suite: str) -> Path:
    """The cache folder for the root file system of this version, architecture (as by ``uname -m``) and Debian suite."""
    debian = DEBIAN[arch]
    content = "\n".join((str(_LAYOUT), suite, debian, *PACKAGES, *_ETC.values()))
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    return cache_dir() / "virtual" / f"rootfs-{suite}-{debian}-{digest}"


def ensure(arch: str, suite: str) -> Path:
    """The root file system's folder; built if it does not exist yet (about ten seconds and 30 MB of download).

    Raises:
        UsageError: mmdebstrap is missing or failed; with its last lines of output.

    """
    root = location(arch, suite)
    if root.is_dir():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(root.parent / "rootfs.lock"):
        if not root.is_dir():
            _build(root, DEBIAN[arch], suite)
    return root


def _build(root: Path, debian: str, suite: str) -> None:
    partial = Path(tempfile.mkdtemp(prefix="building-", dir=root.parent))
    try:
        tree = partial / "root"
        command = [
            programs.find("mmdebstrap", "mmdebstrap"),
            "--mode=root",
            "--variant=extract",
            f"--arch={debian}",
            "--skip=check/qemu",
            f"--include={','.join(PACKAGES)}",
            *([f"--hook-dir={_HOOKS}"] if _HOOKS.is_dir() else []),
            suite,
            str(tree),
        ]
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if result.returncode != 0:
            raise UsageError(
                "the root file system of the emulated boards could not be built",
                where="mmdebstrap",
                why="\n".join(result.stderr.strip().splitlines()[-4:]),
                state="the partial build was removed",
                next="check that apt reaches a Debian mirror (apt-get update) and that the package "
                "debian-archive-keyring is installed, then retry",
            )
        _finish(tree)
        tree.chmod(0o755)
        tree.rename(root)
    finally:
        shutil.rmtree(partial)


def _finish(tree: Path) -> None:
    for name, text in _ETC.items():
        (tree / "etc" / name).write_text(text)
        (tree / "etc" / name).chmod(0o600 if name == "shadow" else 0o644)
    for name in _UNUSED:
        shutil.rmtree(tree / name, ignore_errors=True)
    home = tree / "home" / USER
    home.mkdir()
    home.chmod(0o755)
    os.chown(home, 1000, 1000)


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
