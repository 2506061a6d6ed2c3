"""The devices of a run by name, with one session each; virtual boards are started and stopped."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

from edgepack.base.text import suggestion
from edgepack.config.device import VIRTUAL_PREFIX, Device, Devices, load_devices
from edgepack.errors import UsageError

if TYPE_CHECKING:
    from edgepack.remote.session import Session


@dataclass(frozen=True)
class DeviceIdentity:
    """Properties of a device that are known without connecting to it; part of a measurement's cache key."""

    name: str
    host: str
    port: int | None
    emulated: bool
    virtual: bool


class Boards:
    """Devices and open sessions by name. Boards that this object started are stopped when its block ends.

    ``virtual:KIND`` is the running virtual board of that kind, or a new one that runs until the end of the
    block; any other name is one of the user's ``devices.yaml`` or of a running virtual board.

    Args:
        own: the user's devices if already read; by default they are read when one is looked up.
    """

    def __init__(self, own: Devices | None = None) -> None:
        self._given = own
        self._stack = ExitStack()
        self._devices: dict[str, Device] = {}
        self._sessions: dict[str, Session] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def identify(self, name: str) -> DeviceIdentity:
        """The properties of a device that are known without connecting to it.

        Raises:
            UsageError: no such device.
        """
        if name.startswith(VIRTUAL_PREFIX):
            from edgepack.remote.virtual.kinds import KINDS

            kind = KINDS[name.removeprefix(VIRTUAL_PREFIX)]
            return DeviceIdentity(name, "virtual", None, kind.emulated, virtual=True)
        device = self.device(name)
        virtual = name not in self._own.devices
        return DeviceIdentity(name, device.host, device.port, device.emulated, virtual=virtual)

    def device(self, name: str) -> Device:
        """The device of this name; a virtual one is running when this returns.

        Raises:
            UsageError: no such device.
        """
        if name not in self._devices:
            virtual = name.startswith(VIRTUAL_PREFIX)
            self._devices[name] = self._virtual(name) if virtual else find_device(name, self._own)
        return self._devices[name]

    def session(self, name: str) -> "Session":
        """An open session to the device, connected on first use and reconnected if it was lost.

        Raises:
            UnreachableError: the device does not respond.
            TrustError: its host key is unknown or changed.
        """
        session = self._sessions.get(name)
        if session is None or not session.alive:
            session = self.new_session(name)
            self._stack.callback(session.close)
            self._sessions[name] = session
        return session

    def new_session(self, name: str) -> "Session":
        """A new session, to be closed by the caller."""
        from edgepack.remote.session import connect

        return connect(name, self.device(name))

    @cached_property
    def _own(self) -> Devices:
        return load_devices() if self._given is None else self._given

    def _virtual(self, name: str) -> Device:
        from edgepack.remote import virtual

        kind = name.removeprefix(VIRTUAL_PREFIX)
        for board in virtual.running():
            if board.kind == kind and not board.owned:
                return board.device
        board = virtual.up(kind, owned=True)
        self._stack.callback(virtual.down, board.name)
        return board.device


def find_device(name: str, own: Devices) -> Device:
    """The device ``name`` of the user's ``own``, or the running virtual board of that name.

    Raises:
        UsageError: no such device; with a suggestion.
    """
    from edgepack.remote import virtual

    known = dict(own.devices) | {board.name: board.device for board in virtual.running()}
    if name in known:
        return known[name]
    otherwise = "`edgepack devices list` shows the devices; see docs/add-a-device.md"
    raise UsageError(f"no device named {name}", next=suggestion(name, known, otherwise=otherwise))
