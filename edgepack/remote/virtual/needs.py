"""What this machine needs for a virtual board: programs, a root file system, a way to run another architecture."""

import os
from pathlib import Path
from typing import Any

from edgepack.errors import UsageError
from edgepack.remote.virtual import programs, rootfs
from edgepack.remote.virtual.kinds import Kind


def needs_of(kind: Kind) -> dict[str, Any]:
    """Check that this machine has what the supervisor needs for this kind, before anything is started."""
    needs: dict[str, Any] = {
        "sshd": None,
        "arch": None,
        "rootfs": None,
        "qemu": None,
        "native": {},
        "host_binfmt": False,
        "nodes": [],
        "shown": {},
        "loader": None,
    }
    if kind.gpu is not None and not kind.foreign and os.uname().machine != kind.arch:
        raise UsageError(
            f"virtual board '{kind.name}' is for {kind.arch} machines, but this one is {os.uname().machine}",
            next="use the kind 'host', which has no GPU",
        )
    if kind.foreign:
        if kind.arch == os.uname().machine == "aarch64":
            raise UsageError(
                f"virtual board '{kind.name}' emulates ARM on other machines, but this one is ARM",
                next="use the kind 'host', which runs at full speed",
            )
        needs["arch"] = kind.arch
        needs["qemu"] = programs.find(f"qemu-{kind.arch}-static", "qemu-user-static")
        needs["host_binfmt"] = _host_runs(kind.arch)
        needs["rootfs"] = str(rootfs.ensure(kind.arch, kind.suite))
        if os.geteuid() != 0:  # the board's own
            return needs
    needs["sshd"] = programs.find("sshd", "openssh-server")
    return needs


def _host_runs(arch: str) -> bool:
    """Whether binfmt_misc of the host runs binaries of ``arch`` with an interpreter opened beforehand (flag F)."""
    registered = Path(f"/proc/sys/fs/binfmt_misc/qemu-{arch}")
    if not registered.exists():
        return False
    lines = registered.read_text().splitlines()
    return "enabled" in lines and any(line.startswith("flags:") and "F" in line for line in lines)
