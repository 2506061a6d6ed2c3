"""Tools that bring a release to a board: edgepack, scp and rsync, each run as a user would."""

import json
import os
import platform
import shutil
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.deploy.versions import NAME, Version, digests
from benchmarks.kit.places import ROOT
from benchmarks.kit.processes import SAID, ProcessFailed
from benchmarks.kit.processes import run as run_program
from edgepack.agent.build import build_agent
from edgepack.base.paths import cache_dir
from edgepack.config.device import Device
from edgepack.toolchain.zig import MUSL

BOARD = "board"


@dataclass(frozen=True)
class Destination:
    """A new folder on the board, and how to connect. The board is this machine: ``folder`` is readable here."""

    device: Device  # through the link
    folder: Path
    scratch: Path  # private folder for settings


class WayFailed(Exception):  # noqa: N818 - a result, not a fault
    """A tool did not do what it should; the message says why."""


class Way(ABC):
    """One contestant."""

    name: str
    needs: tuple[str, str] | None = None  # a program, and the Debian package that contains it

    def missing(self) -> str | None:
        """What this machine, which is also the board, lacks for it; None if nothing."""
        if self.needs is None or shutil.which(self.needs[0]):
            return None
        program, package = self.needs
        return f"{program} is not installed (Debian: {package})"

    def prepare(self, there: Destination) -> None:
        """Prepare the board once, untimed: create the folder."""
        there.folder.mkdir(parents=True)

    @abstractmethod
    def deploy(self, there: Destination, version: Version) -> dict[str, Any]:
        """Deploy a version: returns ``seconds``, and the tool's own report in ``said``."""

    def back(self, there: Destination, version: Version) -> dict[str, Any]:
        """Go back to the previous ``version``: by copying it again, unless the tool has a rollback."""
        return self.deploy(there, version)

    def live(self, there: Destination) -> Path:
        """Return the folder that an application on the board would use now."""
        return there.folder


class _Edgepack(Way):
    """``edgepack deploy`` and ``edgepack rollback``."""

    name = "edgepack"

    def prepare(self, there: Destination) -> None:
        build_agent(platform.machine(), MUSL)  # once per edgepack; the first deploy to a board sends it
        # An entry in devices.yaml; edgepack creates the board's folder.
        device = there.device.model_copy(update={"work_dir": str(there.folder)})
        document = {"edgepack": 1, "devices": {BOARD: device.model_dump(mode="json", exclude_none=True)}}
        config = there.scratch / "config" / "edgepack"
        config.mkdir(parents=True, exist_ok=True)
        (config / "devices.yaml").write_text(yaml.safe_dump(document))

    def deploy(self, there: Destination, version: Version) -> dict[str, Any]:
        return self._run(there, "deploy", str(version.bundle), BOARD)

    def back(self, there: Destination, version: Version) -> dict[str, Any]:
        del version  # the board knows the previous version
        return self._run(there, "rollback", NAME, BOARD)

    def live(self, there: Destination) -> Path:
        return (there.folder / NAME / "current").resolve()

    def _run(self, there: Destination, *words: str) -> dict[str, Any]:
        seconds, said = _timed([sys.executable, "-m", "edgepack", *words, "--json"], there)
        answer = json.loads(said)
        if not answer["changed"]:
            raise WayFailed(f"edgepack {words[0]} reports no change")
        own = {"after_connecting_s": answer["seconds"], "files_sent": answer["bytes_sent"]}
        return {"seconds": seconds, "said": own}


class _Scp(Way):
    """``scp -r`` of the folder over the existing files."""

    name = "scp -r"
    needs = ("scp", "openssh-client")

    def deploy(self, there: Destination, version: Version) -> dict[str, Any]:
        options = [*_ssh_options(there), "-P", str(there.device.port)]
        argv = ["scp", "-rq", *options, f"{version.folder}/.", _address(there)]
        return {"seconds": _timed(argv, there)[0], "said": {}}


class _Rsync(Way):
    """``rsync`` of the folder over ssh, onto the existing version."""

    needs = ("rsync", "rsync")

    def __init__(self, options: str) -> None:
        self._options = options
        self.name = f"rsync {options}"

    def deploy(self, there: Destination, version: Version) -> dict[str, Any]:
        shell = " ".join(["ssh", *_ssh_options(there), "-p", str(there.device.port)])
        argv = ["rsync", self._options, "-e", shell, f"{version.folder}/", f"{_address(there)}/"]
        return {"seconds": _timed(argv, there)[0], "said": {}}


WAYS: dict[str, Way] = {way.name: way for way in (_Edgepack(), _Scp(), _Rsync("-a"), _Rsync("-az"))}


def check(way: Way, there: Destination, version: Version) -> None:
    """Check that an application would use exactly the files of the version.

    Raises:
        WayFailed: Files are missing, different or unexpected.
    """
    wrong = sorted({path for path, _ in version.files.items() ^ digests(way.live(there)).items()})
    if wrong:
        raise WayFailed(f"{way.name}: the board's files differ from the version: {', '.join(wrong[:3])}")


def _address(there: Destination) -> str:
    return f"{there.device.user}@{there.device.host}:{there.folder}"


def _ssh_options(there: Destination) -> list[str]:
    """Options that replace ~/.ssh/config: key and known host, without the user's own settings."""
    known = there.scratch / "known_hosts"
    known.write_text(f"[{there.device.host}]:{there.device.port} {there.device.host_key}\n")
    settings = {
        "IdentityFile": there.device.identity_file,
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": known,
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "LogLevel": "ERROR",
    }
    return ["-F", "none", *(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))]


def _timed(argv: list[str], there: Destination) -> tuple[float, str]:
    """Return the wall time of a command in seconds, and its standard output.

    Raises:
        WayFailed: Its exit code is not 0.
    """
    environment = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
    environment |= {
        "HOME": str(there.scratch),  # ignore the user's ~/.ssh/config
        "XDG_CACHE_HOME": str(cache_dir().parent),  # with the agent that was built before
        "XDG_CONFIG_HOME": str(there.scratch / "config"),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    began = time.perf_counter()
    try:
        said = run_program(argv, env=environment)
    except ProcessFailed as error:
        raise WayFailed(f"{argv[0]} {error.how}: {error.said[-SAID:]}") from None
    return time.perf_counter() - began, said
