"""A device: where a release goes. The user's own ``devices.yaml``."""

from typing import Literal

from pydantic import Field

from edgepack.spec import Spec

SCHEMA_VERSION = 1


class Device(Spec):
    """One board. ``host`` may be an alias of ``~/.ssh/config``; what is set here wins over it."""

    host: str = Field(description="Host name, address or alias in ~/.ssh/config.")
    target: str = Field(description="The target this board is, e.g. rpi4.")
    user: str | None = None
    port: int | None = Field(default=None, ge=1, le=65535)
    identity_file: str | None = Field(default=None, description="Private key, if not ssh-agent's or the config's.")
    host_key: str | None = Field(default=None, description="Pinned host key: 'ssh-ed25519 AAAA…'.")
    work_dir: str = Field(default="edgepack", description="Where releases live; relative to the login directory.")
    emulated: bool = Field(default=False, description="Latency on this device means nothing.")


class Devices(Spec):
    """The whole ``devices.yaml``."""

    edgepack: Literal[1] = Field(description="Version of the devices schema.")
    devices: dict[str, Device] = Field(default_factory=dict)
