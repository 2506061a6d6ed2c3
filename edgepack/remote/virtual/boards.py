"""Start, list and stop virtual boards."""

import contextlib
import fcntl
import json
import os
import pwd
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgepack.base.paths import state_dir
from edgepack.config.device import VIRTUAL_PREFIX, Device
from edgepack.errors import UsageError
from edgepack.remote.virtual import gpu, native, rootfs, sshd, supervisor
from edgepack.remote.virtual.kinds import KINDS, Kind
from edgepack.remote.virtual.needs import needs_of

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_PORT_ATTEMPTS = 5
_STOP_TIMEOUT_MS = 5000


@dataclass(frozen=True)
class Board:
    """A running virtual board; as a context manager it is stopped at the end of the block.

    ``folder`` has its keys, log and files, which are reused by the next ``up`` with the same name.
    ``mode`` is how it is isolated, see ``edgepack.remote.virtual.supervisor``. ``owner`` is the process that it
    ends with, if any. ``gpu`` is the setting of its emulated GPU, None without one.
    """

    name: str
    kind: str
    device: Device
    folder: Path
    mode: str
    owner: int | None
    gpu: gpu.Setting | None

    @property
    def owned(self) -> bool:
        """Whether it stops when the process that started it ends."""
        return self.owner is not None

    @property
    def gpu_folder(self) -> Path | None:
        """The folder of its emulated GPU, into whose ``modules`` kernels are put; None without a GPU."""
        return None if self.gpu is None else self.folder / gpu.FOLDER

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        down(self.name)


def up(
    kind: str,
    name: str | None = None,
    *,
    owned: bool = False,
    order: str | None = None,
    fault: str | None = None,
) -> Board:
    """Start a virtual board and return when its sshd responds.

    Args:
        kind: one of ``KINDS``.
        name: the board's name, by default the kind's, with a number appended if that is taken.
        owned: stop the board when the calling process exits for any reason. Otherwise it runs
            until ``down``.
        order: order of the emulated GPU's threads and blocks: forward, reverse or random:SEED.
        fault: what is wrong with the board, one of ``edgepack.config.device.FAULTS``.

    Raises:
        UsageError: the kind is unknown, the name is invalid or taken, the kind has no GPU for the order or fault,
            or this machine lacks something.

    """
    spec = _kind(kind)
    chosen = gpu.setting(spec, order, fault)
    if name is not None and not _NAME.fullmatch(name):
        raise UsageError(f"'{name}' is not a valid board name", why="names consist of a-z, 0-9 and '-'")
    needs = needs_of(spec)
    with _lock():
        _reap()
        taken = {folder.name for folder, _ in _known()}
        if name in taken:
            raise UsageError(
                f"virtual board '{name}' is already running", next=f"edgepack devices down {name}"
            )
        name = name or next(n for n in _names(kind) if n not in taken)
        return _start(spec, name, needs, chosen, owned=owned)


def prepare(kind: str) -> None:
    """Build what a board of this kind needs, so that its first start is quick and needs no network, and start one once.

    Raises:
        UsageError: as ``up``.
    """
    kept = {folder.name for folder in _home().iterdir()} if _home().is_dir() else set()
    board = up(kind, owned=True)
    (down if board.name in kept else purge)(board.name)


def running() -> list[Board]:
    """The running virtual boards, by name. Leftovers of crashes and reboots are removed."""
    if any(not _is_up(state) for _, state in _known()):
        with _lock():
            _reap()
    return [_board(folder, state) for folder, state in _known() if _is_up(state)]


def gpu_folder(board: Board | str) -> Path | None:
    """The folder of a running board's emulated GPU, into whose ``modules`` kernels are put.

    ``board`` may also be the name of a device, or ``virtual:KIND`` for the board that a run uses. None for a device
    that is not a running virtual board with a GPU.
    """
    if isinstance(board, Board):
        return board.gpu_folder
    for each in running():
        mine = not each.owned or each.owner == os.getpid()
        if each.name == board or (mine and f"{VIRTUAL_PREFIX}{each.kind}" == board):
            return each.gpu_folder
    return None


def down(name: str) -> bool:
    """Stop a virtual board with all processes of its sessions; its files are kept for the next ``up``.

    Returns whether it was running.
    """
    with _lock():
        return _take_down(name)


def purge(name: str) -> bool:
    """Stop a virtual board and remove its files and keys. Returns whether it existed."""
    folder = _home() / name
    if not _NAME.fullmatch(name):
        return False
    with _lock():
        _take_down(name)
        if not folder.is_dir():
            return False
        shutil.rmtree(folder)
    return True


def _known() -> list[tuple[Path, dict[str, Any]]]:
    """The folders with a state file, and its contents: boards that are running, or crashed."""
    folders = sorted(_home().iterdir()) if _home().is_dir() else []
    return [(folder, state) for folder in folders if (state := _state(folder)) is not None]


def _is_up(state: dict[str, Any]) -> bool:
    return _alive(state["supervisor"]) and _alive(state["sshd"])


def _reap() -> None:
    """Remove leftovers of a crash or reboot. The caller holds the lock, so no ``up`` is in progress."""
    for folder, state in _known():
        if not _is_up(state):
            _stop(folder, state)


def _take_down(name: str) -> bool:
    folder = _home() / name
    state = _state(folder) if _NAME.fullmatch(name) else None
    if state is None:
        return False
    was_up = _is_up(state)
    _stop(folder, state)
    return was_up


def _home() -> Path:
    return state_dir() / "virtual"


def _kind(kind: str) -> Kind:
    if kind not in KINDS:
        raise UsageError(f"unknown kind of virtual board '{kind}'", why=f"kinds: {', '.join(KINDS)}")
    return KINDS[kind]


def _names(kind: str) -> Iterator[str]:
    yield kind
    number = 2
    while True:
        yield f"{kind}-{number}"
        number += 1


def _start(kind: Kind, name: str, needs: dict[str, Any], chosen: gpu.Setting | None, *, owned: bool) -> Board:
    folder = _home() / name
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    host_key = sshd.make_keys(folder)
    environment = {"QEMU_CPU": kind.qemu_cpu} if kind.qemu_cpu else {}
    if chosen is not None:
        attached = gpu.attach(kind, chosen, folder)
        environment |= attached.environment
        needs |= attached.plan
    rootless = os.geteuid() != 0
    if kind.foreign:
        (folder / "cpuinfo").write_text(kind.cpuinfo(len(os.sched_getaffinity(0))))
        user, work_dir = rootfs.USER, "edgepack"
        if kind.arch == os.uname().machine:
            needs["native"] = {} if rootless else native.sshd_programs(needs["sshd"], folder)
            needs["qemu"] = native.mark_copy(needs["qemu"], folder)
    else:
        (user, _), work_dir = _login(), str(folder / "home" / "edgepack")
        Path(work_dir).mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            # sshd's compiled-in privilege separation folder; Debian creates it if sshd runs as a service.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    mode = ("rootless" if rootless else "chroot") if kind.foreign else "namespace"
    for _ in range(_PORT_ATTEMPTS):
        port = sshd.free_port()
        program, tried = _sshd(needs, mode)
        config = sshd.write_config(folder, tried, port, environment, mode=mode)
        device = Device(
            host="127.0.0.1",
            port=port,
            user=user,
            target=kind.target,
            identity_file=str(folder / "client_key"),
            host_key=host_key,
            work_dir=work_dir,
            emulated=kind.emulated,
        )
        plan = {
            **needs,
            "folder": str(folder),
            "name": name,
            "port": port,
            "mode": mode,
            "sshd": [program, "-D", "-e", "-f", "/run/sshd_config" if mode == "rootless" else str(config)],
            "accounts": {} if kind.foreign else _accounts(folder),
            "owner": _identity(os.getpid()) if owned else None,
            "board": {
                "kind": kind.name,
                "device": device.model_dump(),
                "owner": os.getpid() if owned else None,
                "gpu": None if chosen is None else vars(chosen),
            },
        }
        failure = _launch(plan)
        if failure is None:
            state = _state(folder)
            if state is not None:
                return _board(folder, state)
            failure = (1, "it exited immediately")
        status, why = failure
        if status == supervisor.REFUSED and mode == "namespace" and chosen is None:
            mode = "plain"  # inside an unprivileged container
        elif "Address already in use" not in why:
            break
    raise UsageError(
        f"virtual board '{name}' did not start",
        why=why,
        state="none of its processes are running",
        next=_advice(status),
    )


def _sshd(needs: dict[str, Any], mode: str) -> tuple[str, list[str]]:
    """The board's sshd, and how to run it on the host."""
    if mode != "rootless":
        return needs["sshd"], [needs["sshd"]]
    root = needs["rootfs"]
    return rootfs.SSHD, [needs["qemu"], "-L", root, root + rootfs.SSHD]


def _advice(status: int) -> str:
    if status == supervisor.REFUSED:
        return (
            "this machine does not allow namespaces: in Docker, run the container with --privileged; "
            "else see user.max_user_namespaces in sysctl. The kind 'host' does not need them"
        )
    return "see docs/virtual-boards.md"


def _launch(plan: dict[str, Any]) -> tuple[int, str] | None:
    """Start the supervisor. ``None`` if the board is running, else exit status and reason."""
    command = [sys.executable, "-I", "-S", supervisor.__file__]
    result = subprocess.run(command, input=json.dumps(plan), capture_output=True, text=True, check=False)
    return (
        None
        if result.returncode == 0
        else (result.returncode, result.stderr.strip() or "the supervisor exited unexpectedly")
    )


def _login() -> tuple[str, str]:
    """Name and shell of the current user."""
    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:  # docker run --user 1000
        return "edgepack", "/bin/sh"
    return entry.pw_name, entry.pw_shell


def _accounts(folder: Path) -> dict[str, str]:
    """Copies of the host's account files in which this user has the board's own home folder.

    So the host's shell start-up files are not used. Root gets a shadow entry without password ("*"):
    without PAM, sshd rejects accounts with a locked one ("!"), which root's often is.
    """
    user, shell = _login()
    entry = ":".join((user, "x", str(os.geteuid()), str(os.getegid()), "", str(folder / "home"), shell))
    others = [o for o in Path("/etc/passwd").read_text().splitlines() if not o.startswith(f"{user}:")]
    passwd, shadow = folder / "passwd", folder / "shadow"
    passwd.write_text("\n".join([entry, *others]) + "\n")
    shown = {str(passwd): "/etc/passwd"}
    if os.geteuid() == 0:
        shadow.write_text(f"{user}:*:19000::::::\n")
        shown[str(shadow)] = "/etc/shadow"
    return shown


def _stop(folder: Path, state: dict[str, Any]) -> None:
    """Kill a board's processes and wait for them; then remove its state file."""
    sid = state["supervisor"][0]
    if supervisor.process(sid) is not None and not _alive(state["supervisor"]):
        sid = -1  # the number belongs to another process now: Linux reuses it only after the session is empty
    _end(state["supervisor"], signal.SIGTERM)
    _end(state["supervisor"], signal.SIGKILL)
    _end(state["sshd"], signal.SIGKILL)
    if state["mode"] == "plain":
        supervisor.kill_leftovers(str(folder), sid)
    (folder / "board.json").unlink(missing_ok=True)


def _end(identity: list[int], number: signal.Signals) -> None:
    """Signal a process, if it is still the same one, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(identity[0])
        try:
            if _alive(identity):
                signal.pidfd_send_signal(fd, number)
                watch = select.poll()
                watch.register(fd, select.POLLIN)
                watch.poll(_STOP_TIMEOUT_MS)
        finally:
            os.close(fd)


def _identity(pid: int) -> list[int]:
    found = supervisor.process(pid)
    return [pid, found[1] if found else 0]


def _alive(identity: list[int]) -> bool:
    found = supervisor.process(identity[0])
    return found is not None and found[1] == identity[1]


def _state(folder: Path) -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = json.loads((folder / "board.json").read_bytes())
    except FileNotFoundError:
        return None
    return state


def _board(folder: Path, state: dict[str, Any]) -> Board:
    device = Device.model_validate(state["device"])
    # A board that an earlier version started has neither.
    chosen = gpu.Setting(**state["gpu"]) if state.get("gpu") else None
    return Board(folder.name, state["kind"], device, folder, state["mode"], state.get("owner"), chosen)


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    _home().mkdir(parents=True, exist_ok=True)
    with _home().with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
