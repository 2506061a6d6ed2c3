"""RevokedHostKeys: files of public keys, and key revocation lists, which ssh-keygen reads."""

import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from edgepack.errors import TrustError
from edgepack.remote.publickey import HostKey
from edgepack.remote.sshconfig.files import read_regular

_KRL = b"SSHKRL\n\0"
_LIMIT = 256 << 20  # bytes
_TIMEOUT_S = 60.0


def revoking_file(files: Iterable[Path], keys: Iterable[HostKey], device: str) -> Path | None:
    """The first file that revokes one of the keys; None if none does.

    Raises:
        TrustError: a file cannot be read. As to ssh, every key is then revoked.
    """
    wanted = list(keys)
    for path in files:
        try:
            data = read_regular(path, _LIMIT)
        except OSError as error:
            raise TrustError(
                f"the file of revoked host keys cannot be read: {path}",
                where=device,
                why=f"{error.strerror}; ssh, too, trusts no host while RevokedHostKeys names such a file",
                state="nothing was sent to the device",
                next="correct RevokedHostKeys in ~/.ssh/config or /etc/ssh/ssh_config, or restore the file",
            ) from error
        if data.startswith(_KRL):
            found = any(_in_revocation_list(path, key, device) for key in wanted)
        else:
            found = any(key in wanted for key in _listed(data))
        if found:
            return path
    return None


def _listed(data: bytes) -> Iterable[HostKey]:
    for line in data.decode("utf-8", "replace").splitlines():
        try:
            yield HostKey.parse(line)
        except ValueError:
            continue  # a comment, or damaged


def _in_revocation_list(path: Path, key: HostKey, device: str) -> bool:
    with tempfile.NamedTemporaryFile("w", suffix=".pub") as file:
        file.write(f"{key}\n")
        file.flush()
        try:
            done = subprocess.run(
                ["ssh-keygen", "-Q", "-f", path, file.name],  # noqa: S607 - wherever the user has OpenSSH
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TrustError(
                f"the key revocation list cannot be read: {path}",
                where=device,
                why=f"ssh-keygen reads it: {error}",
                state="nothing was sent to the device",
                next="install openssh-client, or name a file of public keys in RevokedHostKeys",
            ) from error
    # It fails for a revoked key as well as for a list that it cannot read.
    return done.returncode != 0
