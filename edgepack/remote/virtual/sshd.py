"""Keys and configuration of a virtual board's sshd, and the port it listens on."""

import re
import shutil
import socket
import subprocess
from pathlib import Path

from edgepack.remote.virtual.supervisor import MARKER

# The first release with PerSourcePenalties, which would block loopback after failed logins.
_PENALTIES = (9, 8)


def free_port() -> int:
    """A free port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_keys(folder: Path) -> str:
    """Create the board's host key and the client's key if missing; returns the host's public key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    form, openssh = serialization.PrivateFormat.OpenSSH, serialization.PublicFormat.OpenSSH
    for name in ("host_key", "client_key"):
        private = folder / name
        if private.exists():
            continue
        key = Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, openssh)
        private.with_suffix(".pub").write_bytes(public + b"\n")
        partial = private.with_suffix(".partial")
        partial.touch(mode=0o600)
        partial.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        partial.rename(private)
    shutil.copyfile(folder / "client_key.pub", folder / "authorized_keys")
    return (folder / "host_key.pub").read_text().strip()


def write_config(folder: Path, sshd: list[str], port: int, environment: dict[str, str], *, mode: str) -> Path:
    """Write ``sshd_config`` for one start of the board. The host's configuration is not used.

    Args:
        folder: The board's.
        sshd: The command that runs sshd.
        port: Of 127.0.0.1.
        environment: Set in every session.
        mode: How the board is isolated, see ``edgepack.remote.virtual.supervisor``.
    """
    keys = str(folder / "authorized_keys").replace("%", "%%")
    host_key = str(folder / "host_key")
    if mode in ("chroot", "rootless"):
        keys = "/run/authorized_keys"
    if mode == "rootless":
        host_key = "/run/host_key"
    variables = " ".join(f'"{name}={value}"' for name, value in {MARKER: str(folder), **environment}.items())
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f'HostKey "{host_key}"',
        f'AuthorizedKeysFile "{keys}"',
        "AuthenticationMethods publickey",
        "PermitRootLogin prohibit-password",
        "StrictModes no",
        "UsePAM no",
        "UseDNS no",
        "PrintMotd no",
        "PrintLastLog no",
        "PidFile none",
        "MaxSessions 64",
        "MaxStartups 64:30:128",
        "Subsystem sftp internal-sftp",
        f"SetEnv {variables}",
        *(["ChrootDirectory /run/board"] if mode == "chroot" else []),
        *(["PerSourcePenalties no"] if _version(sshd) >= _PENALTIES else []),
    ]
    config = folder / "sshd_config"
    config.write_text("\n".join(lines) + "\n")
    return config


def _version(sshd: list[str]) -> tuple[int, int]:
    # Old releases do not support -V, and print the same line with their usage.
    result = subprocess.run(
        [*sshd, "-V"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", result.stderr + result.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)
