"""A real sshd on loopback, as the user who runs the tests, with separate files."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest

from edgepack.config.device import Device


def lacking(what: str) -> NoReturn:
    """Skip the test with what this machine lacks; in CI this is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def need(program: str) -> str:
    """The path of a program."""
    found = shutil.which(program, path=os.environ["PATH"] + os.pathsep + "/usr/sbin:/sbin")
    return found or lacking(f"{program} is not installed")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def keygen(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    size = ["-b", "2048"] if kind == "rsa" else []  # larger ones take seconds to make
    subprocess.run([need("ssh-keygen"), "-q", "-t", kind, *size, "-N", passphrase, "-f", path], check=True)
    return path


def public(path: Path) -> str:
    """The public half of a key as 'type blob'."""
    return " ".join(Path(f"{path}.pub").read_text().split()[:2])


@dataclass
class Sshd:
    """One running sshd."""

    folder: Path
    identity: Path
    host_key: Path
    extra: str = ""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Sshd":
        self.folder.mkdir(exist_ok=True)
        config = self.folder / "sshd_config"
        keys = self.folder / "authorized_keys"
        keys.write_text(public(self.identity) + "\n")
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.host_key}\nPidFile none\n"
            f"AuthorizedKeysFile {keys}\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nMaxSessions 50\n"
            f"MaxStartups 100\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            # bash reads ~/.bashrc for commands over SSH; the user's own may be slow or noisy.
            f"SetEnv HOME={self.folder}\n{self.extra}\n"
        )
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # its privilege separation directory
        log = (self.folder / "log").open("wb")
        self.process = subprocess.Popen([need("sshd"), "-D", "-e", "-f", config], stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError(f"sshd did not start: {(self.folder / 'log').read_text()}")

    def stop(self) -> None:
        self.kill_sessions()
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)

    def sessions(self) -> list[int]:
        """PIDs of the connections' server processes."""
        assert self.process is not None
        found, parents = [], [self.process.pid]
        while parents:
            servers = [child for child in _children(parents.pop()) if _name(child).startswith("sshd")]
            found += servers
            parents += servers
        return found

    def kill_sessions(self) -> None:
        """Break every connection, like a crash of the server."""
        for pid in self.sessions():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue

    def device(self, **changes: object) -> Device:
        fields = {
            "host": "127.0.0.1",
            "target": "host",
            "port": self.port,
            "user": getpass.getuser(),
            "identity_file": str(self.identity),
            "host_key": public(self.host_key),
            "work_dir": str(self.folder / "board"),
        }
        return Device.model_validate({**fields, **changes})


def _children(pid: int) -> list[int]:
    """PIDs of a process's children; empty if it has exited, even in the meantime."""
    found: list[int] = []
    # The process may end at any step: before its threads are listed, or while they are read.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            found += [int(child) for child in path.read_text().split()]
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
