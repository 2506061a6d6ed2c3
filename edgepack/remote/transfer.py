"""File transfer over SFTP: pipelined, verified, durable, atomic."""

import posixpath
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from edgepack.base.text import human_size
from edgepack.errors import DeployError, EdgepackError
from edgepack.remote.process import broken, lost
from edgepack.remote.sftp import open_sftp

if TYPE_CHECKING:
    from paramiko import SFTPClient, SFTPFile, Transport
    from paramiko.sftp_handle import SFTPHandle

ChunkSent = Callable[[int], None]  # called with the number of bytes just sent

_CHUNK = 32_768  # what every SFTP server accepts in one write (draft-ietf-secsh-filexfer-02, 3)
_CMD_EXTENDED = 200  # SSH_FXP_EXTENDED


class Transfer:
    """The SFTP side of a session; opened on first use. Safe to share between threads."""

    def __init__(self, device: str, transport: "Transport", free_bytes: Callable[[str], int | None]) -> None:
        """``free_bytes`` returns the free space under a path: SFTP does not report "disk full"."""
        self._device = device
        self._transport = transport
        self._free_bytes = free_bytes
        self._lock = threading.Lock()
        self._client: SFTPClient | None = None

    def put(
        self, source: BinaryIO, size: int, dest: str, *, mode: int, progress: ChunkSent | None = None
    ) -> None:
        """Write ``size`` bytes to ``dest``: under a temporary name, synced to disk, then renamed.

        Raises:
            DeployError: The board cannot store the file; ``dest`` is unchanged.
            UnreachableError: The connection was lost; ``dest`` is unchanged.
        """
        folder, name = posixpath.split(dest)
        temporary = posixpath.join(folder, f".{name}.{secrets.token_hex(4)}.part")
        import paramiko

        with self._lock:
            client = self._sftp()
            try:
                with client.open(temporary, "wb") as file:
                    _write(file, source, size, progress)
                    file.chmod(mode)
                    _fsync(client, file.handle)
                client.posix_rename(temporary, dest)
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise self._explain_write(client, error, temporary, dest, size) from error
            except BaseException:  # Ctrl-C, or the progress callback: leave no partial file behind
                self._discard(client, temporary)
                raise

    def get(self, source: str, dest: Path) -> None:
        """Read a file from the board into ``dest``, atomically.

        Raises:
            EdgepackError: There is no such file, or it cannot be read.
            UnreachableError: The connection was lost.
        """
        temporary = dest.with_name(f".{dest.name}.{secrets.token_hex(4)}.part")
        import paramiko

        with self._lock:
            client = self._sftp()
            try:
                client.get(source, str(temporary))
                temporary.replace(dest)
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise self._explain_read(error, source) from error
            finally:
                temporary.unlink(missing_ok=True)

    def read(self, source: str) -> bytes | None:
        """The contents of a small file on the board; None if it does not exist.

        Raises:
            EdgepackError: It cannot be read.
            UnreachableError: The connection was lost.
        """
        import paramiko

        with self._lock:
            client = self._sftp()
            try:
                with client.open(source, "rb") as file:
                    file.prefetch()
                    return file.read()
            except FileNotFoundError:
                return None
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise self._explain_read(error, source) from error

    def close(self) -> None:
        """Close the SFTP channel, if there is one."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _sftp(self) -> "SFTPClient":
        if self._client is None:
            self._client = open_sftp(self._device, self._transport)
        return self._client

    def _discard(self, client: "SFTPClient", path: str) -> None:
        import paramiko

        try:
            client.remove(path)
        except (OSError, EOFError, paramiko.SSHException):
            return  # it was never created, or the connection was lost; the installer removes leftovers

    def _explain_read(self, error: Exception, path: str) -> EdgepackError:
        if broken(self._transport):
            return lost(self._device, self._transport, f"reading {path}")
        why = getattr(error, "strerror", None) or str(error)
        return EdgepackError(f"cannot read {path}", where=self._device, why=why)

    def _explain_write(
        self, client: "SFTPClient", error: Exception, temporary: str, dest: str, size: int
    ) -> EdgepackError:
        """The error to show for a failed write. SFTP itself only reports "Failure" if the disk is full."""
        if broken(self._transport):
            return lost(self._device, self._transport, f"sending {dest}")
        free = self._free_bytes(posixpath.dirname(dest) or ".")  # before the partial file is removed
        self._discard(client, temporary)
        if isinstance(error, FileNotFoundError):
            why = "the folder does not exist"
        elif isinstance(error, PermissionError):
            why = "permission denied"
        elif free is not None and free < size:
            why = f"the disk is full: {human_size(free)} free, {human_size(size)} needed"
        else:
            why = f"the SFTP server says: {error}"
        return DeployError(
            f"cannot write {dest}",
            where=self._device,
            why=why,
            state="the file is unchanged",
            next="free space on the board, or set another work_dir in devices.yaml"
            if "disk is full" in why
            else "check work_dir in devices.yaml, and that the login user can write there",
        )


def _write(file: "SFTPFile", source: BinaryIO, size: int, progress: ChunkSent | None) -> None:
    """Send ``size`` bytes and check that the server has received all."""
    left = size
    while left > 0:
        chunk = source.read(min(_CHUNK, left))
        if not chunk:
            raise EdgepackError(f"a file shrank while it was being sent: {left} bytes are missing")
        left -= len(chunk)
        # Pipelined, paramiko does not look at the answers to the last hundred writes. The last write
        # goes unpipelined: it takes in every answer still due, errors among them.
        file.set_pipelined(left > 0)
        file.write(chunk)
        if progress is not None:
            progress(len(chunk))
    written = file.stat().st_size
    if written != size:
        raise OSError(f"{written} of {size} bytes were written")


def _fsync(client: "SFTPClient", handle: "SFTPHandle | bytes") -> None:
    """Flush an open remote file to its disk (OpenSSH PROTOCOL, 4.6), if the server supports it."""
    try:
        client._request(_CMD_EXTENDED, "fsync@openssh.com", handle)  # type: ignore[attr-defined]  # noqa: SLF001 - paramiko has no public call for extensions
    except OSError as error:
        if error.errno is not None or "unsupported" not in str(error).lower():
            raise
