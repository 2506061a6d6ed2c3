"""Boards that are not Debian: a folder as the root file system, with a real SSH server that ends in it.

Each lives in a mount namespace of its own, so nothing is left of it. Two servers: OpenSSH outside of the root, which
changes into it for each connection, so that the root needs no library at all; and dropbear inside of it.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loopback import free_port, lacking, need, public

from edgepack.config.device import Device

USER, UID = "pi", 1000


@dataclass(frozen=True)
class BoardKind:
    """What is special about a board.

    Attributes:
        shell: The user's login shell; a program of this machine, or an applet of busybox.
        programs: Further programs of this machine with the libraries that they need.
        server: sshd or dropbear.
        files: Files by path.
        mounts: Lines of a shell script with the root in $B, run before the server starts.
        work_dir: The device's.
        without: Paths that are removed.
    """

    shell: str = "/bin/ash"
    programs: tuple[str, ...] = ()
    server: str = "sshd"
    files: dict[str, str] = field(default_factory=dict)
    mounts: str = ""
    work_dir: str = "edgepack"
    without: tuple[str, ...] = ()


def _libraries(program: str) -> list[str]:
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return re.findall(r"(/\S+)", told)


def _copy(root: Path, program: str) -> None:
    """A program with its libraries, at the paths that they have here."""
    for path in (program, *_libraries(program)):
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copyfile(path, target)
            target.chmod(0o755)


def make_root(root: Path, kind: BoardKind) -> Path:
    """A root file system that holds a static busybox, and what the kind says."""
    busybox = Path(need("busybox"))
    if _libraries(str(busybox)):
        lacking("needs a static busybox: apt-get install busybox-static")
    for folder in (
        "bin",
        "sbin",
        "etc",
        "dev",
        "proc",
        "tmp",
        "data",
        "root",
        f"home/{USER}",
        "usr/bin",
        "lib",
    ):
        (root / folder).mkdir(parents=True)
    (root / "lib64").symlink_to("lib")
    shutil.copyfile(busybox, root / "bin/busybox")
    (root / "bin/busybox").chmod(0o755)
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    for program in (*kind.programs, *([need("dropbear")] if kind.server == "dropbear" else [])):
        _copy(root, program)
    (root / "etc/passwd").write_text(
        f"root:x:0:0::/root:/bin/sh\nsshd:x:74:74::/:/bin/false\n{USER}:x:{UID}:{UID}::/home/{USER}:{kind.shell}\n"
    )
    (root / "etc/group").write_text(f"root:x:0:\nsshd:x:74:\n{USER}:x:{UID}:\n")
    (root / "etc/shells").write_text(f"/bin/sh\n{kind.shell}\n")
    for path, text in kind.files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # it may be a link to busybox
        target.write_text(text)
        target.chmod(0o755)
    for path in kind.without:
        (root / path.lstrip("/")).unlink(missing_ok=True)
    for path in (root / f"home/{USER}", *(root / f"home/{USER}").rglob("*"), root / "data"):
        os.chown(path, UID, UID)
    (root / "tmp").chmod(0o1777)
    return root


@dataclass
class Board:
    """A running board."""

    folder: Path
    root: Path
    kind: BoardKind
    identity: Path
    host_key: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Board":
        if os.geteuid() != 0:
            lacking("boards with a root file system of their own need root")
        script = "\n".join(
            [
                "set -e",
                "mount --make-rprivate /",
                f"B={self.root}",
                'mount --bind "$B" "$B"',
                'mount -t proc proc "$B/proc"',
                'mount -t tmpfs -o mode=755 dev "$B/dev"',
                'for node in null zero urandom random; do touch "$B/dev/$node"; mount --bind /dev/$node "$B/dev/$node"; done',
                *(self._dropbear() if self.kind.server == "dropbear" else self._sshd()),
            ]
        )
        log = (self.folder / "log").open("wb")
        # A process group of its own, which ends with its namespace.
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", script],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        log.close()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.02)
        text = (self.folder / "log").read_text()
        if "unshare" in text or "mount" in text:
            lacking(f"boards with a root file system of their own: {text.strip()}")
        raise RuntimeError(f"the board did not start: {text}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)

    def device(self) -> Device:
        return Device.model_validate(
            {
                "host": "127.0.0.1",
                "target": "host",
                "port": self.port,
                "user": USER,
                "identity_file": str(self.identity),
                "host_key": public(self.host_key),
                "work_dir": self.kind.work_dir,
            }
        )

    def _sshd(self) -> Sequence[str]:
        """OpenSSH changes into the root for the user; only root may be able to write the folders above it."""
        config = self.folder / "sshd_config"
        keys = self.root / "etc/authorized_keys"
        keys.write_text(public(self.identity) + "\n")
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.host_key}\nPidFile none\n"
            f"AuthorizedKeysFile /mnt/etc/authorized_keys\nStrictModes no\nUsePAM no\nMaxSessions 50\nChrootDirectory /mnt\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        )
        return (
            'mount --rbind "$B" /mnt',
            "B=/mnt",
            self.kind.mounts,
            "mkdir -p /run/sshd",
            f"mount --bind {self.root}/etc/passwd /etc/passwd",
            f"mount --bind {self.root}/etc/group /etc/group",
            f"exec {need('sshd')} -D -e -f {config}",
        )

    def _dropbear(self) -> Sequence[str]:
        key = self.root / "etc/dropbear.key"
        subprocess.run(
            [need("dropbearconvert"), "openssh", "dropbear", self.host_key, key],
            capture_output=True, check=True,
        )  # fmt: skip
        keys = self.root / f"home/{USER}/.ssh/authorized_keys"
        keys.parent.mkdir(mode=0o700)
        keys.write_text(public(self.identity) + "\n")
        keys.chmod(0o600)
        for path in (keys.parent, keys):
            os.chown(path, UID, UID)
        return (
            self.kind.mounts,
            f'exec chroot "$B" {need("dropbear")} -F -E -w -s -p 127.0.0.1:{self.port} -r /etc/dropbear.key',
        )
