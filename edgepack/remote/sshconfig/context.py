"""What a configuration is read for: the host that was asked for, and the values that tokens stand for."""

import hashlib
import os
import pwd
import re
import socket
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from edgepack.remote.sshconfig.options import SSH_PORT, Value, split_hop
from edgepack.remote.sshconfig.tokens import expand

_SSH_TIMEOUT_S = 10.0


def local_user() -> str:
    """The name of the user who runs edgepack."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without an entry
        return os.environ.get("USER") or str(os.getuid())


@cache
def openssh_version() -> str | None:
    """The version of the OpenSSH client of this machine, such as ``OpenSSH_9.2p1``; None if there is none."""
    try:
        done = subprocess.run(
            ["ssh", "-V"],  # noqa: S607 - wherever the user has OpenSSH
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SSH_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(rb"OpenSSH_[^\s,]+", done.stderr)
    return found[0].decode() if found else None


@dataclass
class HostOptions:
    """The host, and the options as far as they are known: the first value that an option gets stays."""

    asked: str  # the name that the user gave
    host: str  # the same; in the final pass, the name that it stands for
    final: bool = False
    wants_final: bool = False
    values: dict[str, Value] = field(default_factory=dict)

    def first(self, option: str) -> str | None:
        """The first word of an option's value; None if it has none yet."""
        value = self.values.get(option)
        return value[0] if value else None

    def real_host(self) -> str:
        """The host's name as far as it is known: that of HostName, or the name that was asked for.

        Raises:
            ValueError: HostName has an unknown token.
        """
        name = self.first("hostname")
        if self.final or name is None:
            return self.host
        return expand(name, {"h": self.host})

    def user(self) -> str:
        """The user to log in as, as far as it is known."""
        return self.first("user") or local_user()

    def tokens(self, *, alias: str | None = None) -> dict[str, str]:
        """The values of all tokens; ``alias`` replaces ``%k`` where no HostKeyAlias is set."""
        here, host = socket.gethostname(), self.real_host()
        port = self.first("port") or str(SSH_PORT)
        jump = self.jump_host()
        connection = f"{here}{host}{port}{self.user()}{jump}"
        return {
            "C": hashlib.sha1(connection.encode(), usedforsecurity=False).hexdigest(),
            "L": here.partition(".")[0],
            "d": str(Path("~").expanduser()),
            "h": host,
            "i": str(os.getuid()),
            "j": jump,
            "k": self.first("hostkeyalias") or alias or host,
            "l": here,
            "n": self.asked,
            "p": port,
            "r": self.user(),
            "u": local_user(),
        }

    def jump_host(self) -> str:
        """The name of the last jump host; empty if there is none."""
        spec = self.first("proxyjump") or ""
        if spec.lower() in ("", "none"):
            return ""
        return split_hop(spec.rpartition(",")[2])[1]
