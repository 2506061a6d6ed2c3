"""Namespaces and mounts of a virtual board, for the supervisor: the standard library only."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

# <sched.h>, <sys/mount.h>, <sys/prctl.h>
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x04000000, 0x10000000, 0x20000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000

libc = ctypes.CDLL(None, use_errno=True)


def call(what: str, result: int) -> None:
    """Check the result of a function of libc."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int, what: str) -> None:
    """Enter a new namespace."""
    call(f"new {what} namespace", libc.unshare(ctypes.c_int(flags)))


def map_ids(user: int, outer_user: int, group: int, outer_group: int) -> None:
    """Map the only user and group of this process's new user namespace."""
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {outer_user} 1\n")
    Path("/proc/self/gid_map").write_text(f"{group} {outer_group} 1\n")


def mount(source: str, target: Path | str, kind: str | None, flags: int = 0, data: str = "") -> None:
    """Mount a file system or, with MS_BIND, a file or folder."""
    result = libc.mount(
        source.encode(),
        os.fsencode(target),
        kind and kind.encode(),
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    call(f"mount {kind or source} on {target}", result)


def run(command: list[str]) -> None:
    """Run a program; its words are in the error if it fails."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise OSError(0, f"{command[0]} failed: {result.stderr.strip()[-400:]}")


def private_mounts() -> None:
    """Enter a mount namespace that shares nothing with the host's."""
    unshare(CLONE_NEWNS, "mount")
    mount("none", "/", None, MS_REC | MS_PRIVATE)


def _escape(path: Path) -> str:
    return "".join("\\" + c if c in "\\,:" else c for c in str(path))


def writable_root(plan: dict[str, Any], root: Path) -> None:
    """Mount the board's own writable view of the shared root file system at ``root``."""
    folder, base = Path(plan["folder"]), Path(plan["rootfs"])
    copy, upper, work = folder / "root", folder / "upper", folder / "work"
    if not copy.exists():
        upper.mkdir(mode=0o755, exist_ok=True)
        work.mkdir(mode=0o755, exist_ok=True)
        options = f"lowerdir={_escape(base)},upperdir={_escape(upper)},workdir={_escape(work)}"
        if plan["mode"] == "rootless":  # its notes in attributes that need no root: Linux 5.11
            options += ",userxattr"
        try:
            mount("overlay", root, "overlay", 0, options)
        except OSError:  # e.g. in a container, where the state directory is on an overlay itself
            partial = folder / "root.partial"
            shutil.rmtree(partial, ignore_errors=True)
            subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(partial)], check=True)  # noqa: S607 - PATH is ours
            partial.rename(copy)
        else:
            return
    mount(str(copy), root, None, MS_BIND | MS_REC)


def devices(root: Path, nodes: list[str]) -> None:
    """A /dev of the board's own, with further nodes."""
    mount("tmpfs", root / "dev", "tmpfs", MS_NOSUID, "mode=755,size=64k")
    _nodes(root / "dev", nodes)
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        (root / "dev" / name).touch()
        mount(f"/dev/{name}", root / "dev" / name, None, MS_BIND)
    for name in ("pts", "shm"):
        (root / "dev" / name).mkdir()
    mount("/dev/pts", root / "dev/pts", None, MS_BIND)
    mount("tmpfs", root / "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=64m")
    links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
    for name, link in links.items():
        (root / "dev" / name).symlink_to(link)


def _nodes(dev: Path, nodes: list[str]) -> None:
    """Device nodes that programs look for and none opens."""
    for name in nodes:
        (dev / name).parent.mkdir(parents=True, exist_ok=True)
        (dev / name).touch()
        mount("/dev/null", dev / name, None, MS_BIND)


def own_devices(where: Path, nodes: list[str]) -> None:
    """Replace /dev by a copy of it, made at ``where``, that has more nodes."""
    where.mkdir(exist_ok=True)
    mount("tmpfs", where, "tmpfs", MS_NOSUID, "mode=755,size=1m")
    for entry in Path("/dev").iterdir():
        copy = where / entry.name
        if entry.is_symlink():
            copy.symlink_to(entry.readlink())
            continue
        if entry.is_dir():
            copy.mkdir()
        else:
            copy.touch()
        mount(str(entry), copy, None, MS_BIND | MS_REC)
    _nodes(where, nodes)
    mount(str(where), "/dev", None, MS_BIND | MS_REC)


def show(root: Path, shown: dict[str, str]) -> None:
    """Show the host's files and folders, by the path that they have on the board."""
    for inside, source in shown.items():
        target = root / inside.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if Path(source).is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.touch()
        mount(source, target, None, MS_BIND)
