"""The process that owns one virtual board: it creates namespaces, starts sshd and stops all of it.

It is run as ``python -I supervisor.py < plan.json`` and imports the standard library only, so that a
board starts in a fraction of a second. Exit status 0: the board is running and ``board.json`` is
written. 1: it failed, the reason is on stderr. 3: this machine does not allow the namespaces.

Four ways to run sshd, by ``plan["mode"]``:

* ``chroot``: PID, mount and UTS namespaces of root, then a user namespace with a binfmt_misc of its own
  (Linux 6.7) in which foreign binaries run under qemu. Sessions see only the board's own file system.
* ``rootless``: the same for a normal user, in a user namespace of that user. The user is the board's only one; sshd is
  the board's own, which runs under qemu: a native one cannot change the root directory without being root.
* ``namespace``: PID and mount namespace with the host's file system; for a normal user inside a user
  namespace of that user.
* ``plain``: no namespace. Leftovers of sessions are found by session id and environment.

In all but the last, sshd is process 1 of its PID namespace: when it dies, the kernel kills every process of
every session and drops every mount. sshd is tied to the supervisor by PR_SET_PDEATHSIG, and the
supervisor watches its owner's pidfd, so a SIGKILL of either leaves nothing behind.
"""

import contextlib
import ctypes
import errno
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgepack.remote.virtual import mounts
else:  # it runs without the package on its path
    mounts = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("mounts.py"))))

REFUSED = 3
REFUSALS = {
    errno.EPERM,
    errno.EACCES,
    errno.EINVAL,
    errno.ENOSYS,
    errno.ENOSPC,
}  # ENOSPC: a sysctl limit of 0
MARKER = "EDGEPACK_VIRTUAL_BOARD"  # environment variable of every session, set to the board's folder
START_TIMEOUT_S = 15.0
EXEC_TIMEOUT_S = 0.2  # timeout for loading a large program from a slow disk

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
ALL_IDS = "0 0 4294967295\n"
BOARD_USER = 1000  # user and group, as in the board's accounts

# ELF, 64 bit, little endian, any OS ABI, padding of zeros, ET_EXEC or ET_DYN, the machine (e_machine)
# (kernel: admin-guide/binfmt-misc.rst). Flags: P keeps argv[0], O and C pass the open file and its credentials,
# F opens qemu here and now, so that it need not exist inside the board's file system.
MAGIC = rb"\x7fELF\x02\x01\x01" + rb"\x00" * 9 + rb"\x02\x00%s\x00"
MASK = rb"\xff" * 7 + rb"\x00" + rb"\xff" * 8 + rb"\xfe\xff\xff\xff"
MACHINES = {"aarch64": rb"\xb7", "x86_64": rb"\x3e"}


def process(pid: int) -> tuple[int, int] | None:
    """Session id and start time (clock ticks after boot) of a live process, ``None`` if gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else (int(fields[3]), int(fields[19]))


def _environment(entry: Path) -> bytes:
    """The environment of ``/proc/PID``, even while the process is in execve.

    The kernel shows an empty one until the new program's is set. A program without an environment looks the
    same, hence the time limit; a kernel thread has no ``exe``.
    """
    deadline = time.monotonic() + EXEC_TIMEOUT_S
    while not (environment := (entry / "environ").read_bytes()) and time.monotonic() < deadline:
        (entry / "exe").readlink()
        time.sleep(0.001)
    return environment


def leftovers(folder: str, sid: int) -> Iterator[int]:
    """Processes of a ``plain`` board: those of the supervisor's session, and those that carry its marker."""
    mark = f"{MARKER}={folder}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        if (found := process(int(entry.name))) is None:
            continue
        try:
            marked = mark in _environment(entry).split(b"\0")
        except OSError:  # another user's process, or it exited: not one of our sessions
            marked = False
        if found[0] == sid or marked:
            yield int(entry.name)


def kill_leftovers(folder: str, sid: int) -> None:
    """Kill until none is left: a process may fork before it is killed."""
    deadline = time.monotonic() + 5
    while (pids := list(leftovers(folder, sid))) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


# --- inside: what becomes sshd, process 1 of the board ---------------------------------------------------


def _register_qemu(plan: dict[str, Any]) -> None:
    """Make the kernel run binaries of the board's architecture under qemu, for this user namespace only."""
    where = Path("/run/binfmt")
    where.mkdir()
    for program, copy in plan["native"].items():
        mounts.mount(copy, program, None, mounts.MS_BIND)
    arch, magic = plan["arch"].encode(), MAGIC % MACHINES[plan["arch"]]
    entry = b":qemu-%s:M::%s:%s:%s:POCF" % (arch, magic, MASK, os.fsencode(plan["qemu"]))
    try:
        mounts.mount("binfmt_misc", where, "binfmt_misc")
        (where / "register").write_bytes(entry)
    except OSError as error:
        # The host's own registration (Debian's qemu-user-static makes one at boot) serves just as well if
        # it opened qemu beforehand.
        if not plan["host_binfmt"]:
            what = f"register qemu in a user namespace, which takes Linux 6.7: {error.strerror}"
            raise OSError(0, f"{what}; and the host has no registration of its own") from None


def _mount_board(plan: dict[str, Any], root: Path) -> None:
    """Mount the board's file system, with its own /run on the host: the host's is left alone."""
    mounts.private_mounts()
    mounts.unshare(mounts.CLONE_NEWUTS, "UTS")
    name = plan["name"].encode()
    mounts.call("set the host name", mounts.libc.sethostname(name, ctypes.c_size_t(len(name))))
    # sshd's ChrootDirectory must hang below folders that only root can write.
    mounts.mount("tmpfs", "/run", "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, "mode=755,size=1m")
    root.mkdir(mode=0o755)
    mounts.writable_root(plan, root)
    for inside in (root / "proc", Path("/proc")):
        mounts.mount("proc", inside, "proc")
    mounts.mount(str(Path(plan["folder"]) / "cpuinfo"), root / "proc/cpuinfo", None, mounts.MS_BIND)
    mounts.devices(root, plan["nodes"])
    if plan["shown"]:
        mounts.show(root, plan["shown"])
        # Not by its notes of an earlier start: they tell files apart by inode and second, and both come again.
        mounts.run([plan["qemu"], str(root / "usr/sbin/ldconfig"), "-i", "-r", str(root)])


def _enter_chroot(plan: dict[str, Any], mapped: "Handshake") -> None:
    root = Path("/run/board")
    _mount_board(plan, root)
    Path("/run/sshd").mkdir(mode=0o755)
    shutil.copyfile(Path(plan["folder"]) / "authorized_keys", "/run/authorized_keys")
    # The native sshd looks up the board's users, not the host's.
    for name_of in ("passwd", "group", "shadow"):
        mounts.mount(str(root / "etc" / name_of), f"/etc/{name_of}", None, mounts.MS_BIND)
    mounts.unshare(mounts.CLONE_NEWUSER | mounts.CLONE_NEWNS, "user")
    mapped.ask()
    _register_qemu(plan)


def _enter_rootless(plan: dict[str, Any]) -> None:
    root = Path("/run/board")
    _mount_board(plan, root)
    mounts.mount("tmpfs", root / "run", "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, "mode=755,size=1m")
    for name in ("host_key", "authorized_keys", "sshd_config"):
        shutil.copy(Path(plan["folder"]) / name, root / "run")
    (root / "run/sshd").mkdir()
    _register_qemu(plan)
    # Until here the user was root, which can mount; the board's user is another one.
    mounts.unshare(mounts.CLONE_NEWUSER, "user")
    mounts.map_ids(BOARD_USER, 0, BOARD_USER, 0)
    os.chroot(root)
    os.chdir("/")


def _enter_namespace(plan: dict[str, Any]) -> None:
    mounts.private_mounts()
    mounts.mount("proc", "/proc", "proc")
    for shown, replaced in plan["accounts"].items():
        mounts.mount(shown, replaced, None, mounts.MS_BIND)
    if plan["loader"]:
        command, cache = plan["loader"]
        if Path("/var/cache/ldconfig").is_dir():  # ldconfig's own notes: not those of the host
            mounts.mount(
                "tmpfs",
                "/var/cache/ldconfig",
                "tmpfs",
                mounts.MS_NOSUID | mounts.MS_NODEV,
                "mode=700,size=1m",
            )
        mounts.run(command)
        mounts.mount(cache, "/etc/ld.so.cache", None, mounts.MS_BIND)
        mounts.own_devices(Path(plan["folder"]) / "dev", plan["nodes"])


class Handshake:
    """Lets the inner process wait until the outer one has written its ID maps."""

    def __init__(self) -> None:
        self.inner, self.outer = socket.socketpair()

    def ask(self) -> None:
        """Inner side: request the maps and wait."""
        self.inner.send(b"?")
        if self.inner.recv(1) != b"!":
            raise OSError("the supervisor could not map user IDs")

    def answer(self, pid: int) -> None:
        """Outer side: write the maps on request; returns when the inner side has continued or exited."""
        self.inner.close()
        if self.outer.recv(1) == b"?":
            for kind in ("uid", "gid"):
                Path(f"/proc/{pid}/{kind}_map").write_text(ALL_IDS)
            self.outer.send(b"!")


def _become_sshd(plan: dict[str, Any], status: int, mapped: Handshake) -> None:
    """Enter the namespaces and exec sshd. Never returns; failures go to ``status`` as JSON."""
    try:
        mapped.outer.close()
        if plan["mode"] == "chroot":
            _enter_chroot(plan, mapped)
        elif plan["mode"] == "rootless":
            _enter_rootless(plan)
        elif plan["mode"] == "namespace":
            _enter_namespace(plan)
        mounts.libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        watch = select.poll()
        watch.register(status, 0)
        if any(event & select.POLLERR for _, event in watch.poll(0)):  # the supervisor exited before prctl
            os._exit(1)
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        os.execve(plan["sshd"][0], plan["sshd"], environment)  # noqa: S606 - this process becomes sshd
    except OSError as error:
        os.write(status, json.dumps([error.errno in REFUSALS, error.strerror or str(error)]).encode())
    except subprocess.CalledProcessError as error:
        os.write(status, json.dumps([False, str(error)]).encode())
    finally:
        os._exit(1)


# --- outside: the supervisor ------------------------------------------------------------------------------


class FailedError(Exception):
    """The board did not start. ``status`` is the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def _start(plan: dict[str, Any]) -> int:
    """Start sshd in the mode ``plan["mode"]`` and return its PID."""
    try:
        if plan["mode"] != "plain":
            if os.geteuid() != 0:
                user, group = os.geteuid(), os.getegid()
                inside = (0, 0) if plan["mode"] == "rootless" else (user, group)
                mounts.unshare(mounts.CLONE_NEWUSER, "user")
                mounts.map_ids(inside[0], user, inside[1], group)
            mounts.unshare(mounts.CLONE_NEWPID, "PID")
    except OSError as error:
        raise FailedError(error.strerror or str(error), REFUSED) from None
    reading, writing = os.pipe()  # closed by exec
    mapped = Handshake()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _become_sshd(plan, writing, mapped)
    os.close(writing)
    mapped.answer(pid)
    with os.fdopen(reading, "rb") as stream:
        failure = stream.read()
    mapped.outer.close()
    if failure:
        os.waitpid(pid, 0)
        refused, message = json.loads(failure)
        raise FailedError(message, REFUSED if refused else 1)
    return pid


def _await_port(pid: int, port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        if os.waitpid(pid, os.WNOHANG)[0]:
            raise FailedError(f"sshd exited immediately: {log.read_text(errors='replace').strip()}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
                if probe.recv(4) == b"SSH-":
                    return
        except OSError:
            pass  # not listening yet
        if time.monotonic() > deadline:
            raise FailedError(
                f"sshd does not respond on port {port}: {log.read_text(errors='replace').strip()}"
            )
        time.sleep(0.005)


def _watch(sshd: int, owner: int | None, stop: int) -> None:
    """Return when sshd or the owner exits (both are pidfds; the owner is optional), or on a stop signal."""
    watch = select.poll()
    for fd in (sshd, owner, stop):
        if fd is not None:
            watch.register(fd, select.POLLIN)
    watch.poll()


def _owner(plan: dict[str, Any]) -> int | None:
    if plan["owner"] is None:
        return None
    pid, started = plan["owner"]
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        raise FailedError("the process that started this board has exited") from None
    found = process(pid)
    if found is None or found[1] != started:
        raise FailedError("the process that started this board has exited")
    return fd


def _supervise(plan: dict[str, Any], ready: int) -> None:
    folder = Path(plan["folder"])
    state, log = folder / "board.json", folder / "sshd.log"
    stop, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    owner = _owner(plan)
    pid = _start(plan)
    sshd = os.pidfd_open(pid)
    try:
        _await_port(pid, plan["port"], log)
        me, child = process(os.getpid()), process(pid)
        if me is None or child is None:
            raise FailedError(f"sshd exited immediately: {log.read_text(errors='replace').strip()}")
        processes = {"supervisor": [os.getpid(), me[1]], "sshd": [pid, child[1]]}
        partial = state.with_suffix(".partial")
        partial.write_text(json.dumps({**plan["board"], "mode": plan["mode"], **processes}))
        partial.replace(state)
        os.write(ready, b"0")
        os.close(ready)
        _watch(sshd, owner, stop)
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(sshd, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # already reaped: it never started
            os.waitpid(pid, 0)
        if plan["mode"] == "plain":
            kill_leftovers(plan["folder"], os.getsid(0))
        state.unlink(missing_ok=True)


def main() -> int:
    """Read the plan from stdin, start the board, and leave its supervisor running in the background."""
    plan = json.load(sys.stdin)
    reading, writing = os.pipe()
    if os.fork() != 0:
        os.close(writing)
        with os.fdopen(reading, "rb") as stream:
            answer = stream.read()
        sys.stderr.write(answer[1:].decode())
        return int(answer[:1] or b"1")
    os.close(reading)
    os.setsid()
    os.umask(0o022)  # board users must be able to read files created by root here
    log = os.open(Path(plan["folder"]) / "sshd.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, fd in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, fd)
    try:
        _supervise(plan, writing)
    except FailedError as failure:
        os.write(writing, f"{failure.status}{failure}".encode())
    except OSError as error:
        os.write(writing, f"1{error}".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
