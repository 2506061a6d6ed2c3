"""Devices: the boards that releases are deployed to, from the user's ``devices.yaml``."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from edgepack.base.paths import config_dir
from edgepack.config.yaml_document import YamlDocument
from edgepack.config.yaml_model import Checked, read_model
from edgepack.spec import Filled, Spec

SCHEMA_VERSION = 1

VIRTUAL_PREFIX = "virtual:"
VIRTUAL_KINDS = (
    "arm64",
    "host",
    "host-gpu",
    "jetson-orin",
    "jetson-thor",
    "rpi3",
    "rpi4",
    "rpi5",
    "x86-64-v2",
    "x86-64-v3",
)  # each emulates the target of the same name
# What can be wrong with a virtual board that has a GPU, by name.
FAULTS = {
    "jetpack-6": "JetPack 6 (CUDA 12.6) instead of JetPack 7",
    "no-driver": "no NVIDIA driver and no device node",
    "compute-capability": "a GPU of compute capability 7.2 (Xavier)",
    "out-of-memory": "no free device memory",
    "hang": "a kernel that never ends",
    "reset": "the GPU is lost at the second kernel",
}


class Device(Spec):
    """One board. ``host`` may be an alias of ``~/.ssh/config``; settings here override it."""

    host: Filled = Field(description="Host name, address or alias in ~/.ssh/config.")
    target: Filled = Field(description="The board's target, e.g. rpi4.")
    user: Filled | None = Field(default=None, description="Login name.")
    port: int | None = Field(default=None, ge=1, le=65535, description="Port of the board's sshd.")
    identity_file: Filled | None = Field(
        default=None, description="Private key; by default those of ssh-agent and ~/.ssh/config."
    )
    host_key: Filled | None = Field(default=None, description="Pinned host key: 'ssh-ed25519 AAAA…'.")
    work_dir: Filled = Field(
        default="edgepack", description="Folder for releases, relative to the login directory."
    )
    emulated: bool = Field(
        default=False, description="The device is emulated, so its latency is meaningless."
    )


class Devices(Spec):
    """The whole ``devices.yaml``."""

    edgepack: Literal[1] = Field(description="Version of the devices schema.")
    devices: dict[str, Device] = Field(
        default_factory=dict, description="Boards by the names that recipes use."
    )


def devices_path() -> Path:
    """The path of the user's ``devices.yaml``, which may not exist."""
    return config_dir() / "devices.yaml"


def load_devices(path: Path | None = None) -> Devices:
    """Read a devices file; without ``path`` the user's own, which may not exist.

    Raises:
        ConfigError: with every problem in the file.
    """
    return examine_devices(path).result()


def examine_devices(path: Path | None = None) -> Checked[Devices]:
    """Read a devices file and collect every problem."""
    path = path or devices_path()
    if path == devices_path() and not path.exists():
        return Checked(YamlDocument(str(path), None), Devices(edgepack=1), [])
    return read_model(path, Devices, stand_ins={"edgepack": 1})
