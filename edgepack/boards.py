"""The devices of a run: found by name, virtual ones brought up and taken down, one session each."""

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from edgepack.device import Device, load_devices
from edgepack.errors import UsageError
from edgepack.remote.session import Session

VIRTUAL = "virtual:"


class Boards:
    """Open sessions by device name. What this object brought up, it takes down when it is left.

    ``virtual:KIND`` is the running virtual board of that kind, or a new one that lives as long as this
    object; any other name is looked up in the user's ``devices.yaml``.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._devices: dict[str, Device] = {}
        self._sessions: dict[str, Session] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def device(self, name: str) -> Device:
        """The device of this name; a virtual one is up when this returns.

        Raises:
            UsageError: no such device.
        """
        if name not in self._devices:
            self._devices[name] = self._virtual(name) if name.startswith(VIRTUAL) else find_device(name)
        return self._devices[name]

    def session(self, name: str) -> Session:
        """An open session to the device, connected on first use and again after it was lost.

        Raises:
            UnreachableError: the device does not answer.
            TrustError: its host key is unknown or changed.
        """
        from edgepack.remote.session import connect

        if name not in self._sessions:
            session = connect(name, self.device(name))
            self._stack.callback(session.close)
            self._sessions[name] = session
        return self._sessions[name]

    def forget(self, name: str) -> None:
        """Drop a session that failed, so that the next use connects anew."""
        session = self._sessions.pop(name, None)
        if session is not None:
            session.close()

    def _virtual(self, name: str) -> Device:
        from edgepack.remote import virtual

        kind = name.removeprefix(VIRTUAL)
        for board in virtual.running():
            if board.name == kind:
                return board.device
        board = virtual.up(kind, owned=True)
        self._stack.callback(virtual.down, board.name)
        return board.device


def find_device(name: str) -> Device:
    """The device ``name`` of the user's devices.yaml, or the running virtual board of that name.

    Raises:
        UsageError: no such device; the near miss is named.
    """
    from difflib import get_close_matches

    from edgepack.remote import virtual

    known = dict(load_devices().devices)
    known |= {board.name: board.device for board in virtual.running()}
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "add it to devices.yaml; `edgepack devices list` shows what is there"
    raise UsageError(f"no device named {name}", next=hint)
