"""The ways to bring a release to a board: edgepack, scp and rsync, each as its user would call it."""

import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.deploy.versions import NAME, Version, digests
from benchmarks.kit.places import ROOT
from benchmarks.kit.processes import SAID, ProcessFailed
from benchmarks.kit.processes import run as run_program
from edgepack.config.device import Device

BOARD = "board"


@dataclass(frozen=True)
class Destination:
    """A new folder on the board, and how to reach it. The board is this machine: ``folder`` can be read here."""

    device: Device  # through the link
    folder: Path
    scratch: Path  # the caller's own, for settings


class WayFailed(Exception):  # noqa: N818 - a result, not a fault
    """A way did not do what it should; the message says why."""


class Way:
    """One contestant."""

    name: str
    needs: tuple[str, str] | None = None  # a program, and the Debian package that brings it

    def missing(self) -> str | None:
        """What this machine, which is the board, too, lacks for it; None where it can start."""
        if self.needs is None or shutil.which(self.needs[0]):
            return None
        program, package = self.needs
        return f"{program} is not installed (Debian: {package})"

    def prepare(self, there: Destination) -> None:
        """What a user does once for a board, not timed: make the folder."""
        there.folder.mkdir(parents=True)

    def deploy(self, there: Destination, version: Version) -> dict[str, Any]:
        """Bring a version to the board: ``seconds`` it took, and what it ``said`` of itself."""
        raise NotImplementedError

    def back(self, there: Destination, version: Version) -> dict[str, Any]:
        """Go back to ``version``, which was there before: by copying it again, unless there is more to the way."""
        return self.deploy(there, version)

    def live(self, there: Destination) -> Path:
        """The folder that an application on the board would use now."""
        return there.folder


class _Edgepack(Way):
    """``edgepack deploy`` and ``edgepack rollback``."""

    name = "edgepack"

    def prepare(self, there: Destination) -> None:
        # An entry in devices.yaml; the board's folder is made by edgepack.
        device = there.device.model_copy(update={"work_dir": str(there.folder)})
        document = {"edgepack": 1, "devices": {BOARD: device.model_dump(mode="json", exclude_none=True)}}
        config = there.scratch / "config" / "edgepack"
        config.mkdir(parents=True, exist_ok=True)
        (config / "devices.yaml").write_text(yaml.safe_dump(document))

    def deploy(self, there: Destination, version: Version) -> dict[str, Any]:
        return self._run(there, "deploy", str(version.bundle), BOARD)

    def back(self, there: Destination, version: Version) -> dict[str, Any]:
        del version  # the board knows what was there before
        return self._run(there, "rollback", NAME, BOARD)

    def live(self, there: Destination) -> Path:
        return (there.folder / NAME / "current").resolve()

    def _run(self, there: Destination, *words: str) -> dict[str, Any]:
        seconds, said = _timed([sys.executable, "-m", "edgepack", *words, "--json"], there)
        answer = json.loads(said)
        if not answer["changed"]:
            raise WayFailed(f"edgepack {words[0]} says that it changed nothing")
        own = {"after_connecting_s": answer["seconds"], "files_sent": answer["bytes_sent"]}
        return {"seconds": seconds, "said": own}


class _Scp(Way):
    """``scp -r`` of the folder over whatever lies there."""

    name = "scp -r"
    needs = ("scp", "openssh-client")

    def deploy(self, there: Destination, version: Version) -> dict[str, Any]:
        options = [*_ssh_options(there), "-P", str(there.device.port)]
        argv = ["scp", "-rq", *options, f"{version.folder}/.", _address(there)]
        return {"seconds": _timed(argv, there)[0], "said": {}}


class _Rsync(Way):
    """``rsync`` of the folder over ssh, onto the version that lies there."""

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
    """Whether every byte of the version, and nothing else, is what an application would use now.

    Raises:
        WayFailed: It is not.
    """
    wrong = sorted({path for path, _ in version.files.items() ^ digests(way.live(there)).items()})
    if wrong:
        raise WayFailed(f"{way.name}: the board does not hold the version: {', '.join(wrong[:3])}")


def _address(there: Destination) -> str:
    return f"{there.device.user}@{there.device.host}:{there.folder}"


def _ssh_options(there: Destination) -> list[str]:
    """What a line in ~/.ssh/config would say: key and known host; nothing of the user's own settings."""
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
    """Seconds from the start of a command to its end, and its standard output.

    Raises:
        WayFailed: It ended with another code than 0.
    """
    environment = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
    environment |= {
        "HOME": str(there.scratch),  # no ~/.ssh/config of the user's in any of them
        "XDG_CONFIG_HOME": str(there.scratch / "config"),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    began = time.perf_counter()
    try:
        said = run_program(argv, env=environment)
    except ProcessFailed as error:
        raise WayFailed(f"{argv[0]} {error.how}: {error.said[-SAID:]}") from None
    return time.perf_counter() - began, said
