"""The root file system shared by emulated boards of an architecture and a suite: Debian packages, unpacked once and cached.

A user who is not root has one of their own, which belongs to them and has an sshd that runs on the board.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgepack.base.paths import cache_dir
from edgepack.remote.virtual import debian

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
SSHD = "/usr/sbin/sshd"
_SERVER = "openssh-server"  # of boards started without root
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
_LAYOUT = 2  # incremented when this file builds a different result from the same packages


def location(arch: str, suite: str) -> Path:
    """The cache folder for the root file system of this version, architecture (as by ``uname -m``) and Debian suite."""
    content = "\n".join((str(_LAYOUT), suite, DEBIAN[arch], *_packages(), *_ETC.values()))
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    return cache_dir() / "virtual" / f"rootfs-{suite}-{DEBIAN[arch]}-{digest}"


def _packages() -> tuple[str, ...]:
    return PACKAGES if os.geteuid() == 0 else (*PACKAGES, _SERVER)


def ensure(arch: str, suite: str) -> Path:
    """The root file system's folder; built if it does not exist yet (about ten seconds and 30 MB of download).

    Raises:
        UsageError: as :func:`edgepack.remote.virtual.debian.unpack`.
    """
    root = location(arch, suite)
    if root.is_dir():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(root.parent / "rootfs.lock"):
        if not root.is_dir():
            _build(root, arch, suite)
    return root


def _build(root: Path, arch: str, suite: str) -> None:
    partial = Path(tempfile.mkdtemp(prefix="building-", dir=root.parent))
    try:
        tree, scratch = partial / "root", partial / "apt"
        tree.mkdir(mode=0o755)
        scratch.mkdir()
        debian.unpack(tree, DEBIAN[arch], suite, _packages(), scratch)
        _finish(tree)
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
    if os.geteuid() == 0:
        os.chown(home, 1000, 1000)


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
