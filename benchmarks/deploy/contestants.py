"""The ways to bring a release to a board: edgepack, scp and rsync, each as its user would call it."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import yaml

from benchmarks.deploy.versions import NAME, Version, digests
from edgepack.config.device import Device

BOARD = "board"


@dataclass(frozen=True)
class Place:
    """A new folder on the board, and how to reach it. The board is this machine: ``folder`` can be read here."""

    device: Device  # through the link
    folder: Path
    scratch: Path  # the caller's own, for settings


@dataclass(frozen=True)
class Done:
    """A command that ended well: how long it took, from its start to its end, and what it said of itself."""

    seconds: float
    said: dict[str, float] = field(default_factory=dict)


class Failed(Exception):  # noqa: N818 - a result, not a fault
    """A way did not do what it should; the message says why."""


class Way(Protocol):
    """One contestant."""

    name: str

    def missing(self) -> str | None:
        """What this machine lacks for it; None where it can start."""

    def prepare(self, place: Place) -> None:
        """What a user does once for a board, not timed."""

    def deploy(self, place: Place, version: Version) -> Done:
        """Bring a version to the board."""

    def back(self, place: Place, version: Version) -> Done:
        """Go back to ``version``, which was there before."""

    def live(self, place: Place) -> Path:
        """The folder that an application on the board would use now."""


class Edgepack:
    """``edgepack deploy`` and ``edgepack rollback``."""

    name = "edgepack"

    def missing(self) -> str | None:
        """Nothing: it is this project."""
        return None

    def prepare(self, place: Place) -> None:
        """An entry in devices.yaml; the board's folder is made by edgepack."""
        device = place.device.model_copy(update={"work_dir": str(place.folder)})
        document = {"edgepack": 1, "devices": {BOARD: device.model_dump(mode="json", exclude_none=True)}}
        config = place.scratch / "config" / "edgepack"
        config.mkdir(parents=True, exist_ok=True)
        (config / "devices.yaml").write_text(yaml.safe_dump(document))

    def deploy(self, place: Place, version: Version) -> Done:
        """``edgepack deploy BUNDLE``."""
        return self._run(place, "deploy", str(version.bundle), BOARD)

    def back(self, place: Place, version: Version) -> Done:
        """``edgepack rollback``: the board knows what was there before."""
        del version
        return self._run(place, "rollback", NAME, BOARD)

    def live(self, place: Place) -> Path:
        """What the link ``current`` points to."""
        return (place.folder / NAME / "current").resolve()

    def _run(self, place: Place, *words: str) -> Done:
        seconds, said = _timed([sys.executable, "-m", "edgepack", *words, "--json"], place)
        answer = json.loads(said)
        if not answer["changed"]:
            raise Failed(f"edgepack {words[0]} says that it changed nothing")
        return Done(seconds, {"after_connecting_s": answer["seconds"], "files_sent": answer["bytes_sent"]})


class Scp:
    """``scp -r`` of the folder; going back is copying the old version again."""

    name = "scp -r"

    def missing(self) -> str | None:
        """Whether there is a scp."""
        return _lacks("scp", "openssh-client")

    def prepare(self, place: Place) -> None:
        """The folder, empty."""
        place.folder.mkdir(parents=True)

    def deploy(self, place: Place, version: Version) -> Done:
        """``scp -r`` over whatever lies there."""
        device = place.device
        options = [*_ssh_options(place), "-P", str(device.port)]
        argv = ["scp", "-rq", *options, f"{version.folder}/.", f"{_login(device)}:{place.folder}"]
        return Done(_timed(argv, place)[0])

    def back(self, place: Place, version: Version) -> Done:
        """The same, with the old version."""
        return self.deploy(place, version)

    def live(self, place: Place) -> Path:
        """The folder itself."""
        return place.folder


class Rsync(Scp):
    """``rsync`` of the folder onto the version that lies there; going back is the same with the old one."""

    def __init__(self, options: str) -> None:
        self._options = options
        self.name = f"rsync {options}"

    def missing(self) -> str | None:
        """Whether there is an rsync here; the board is this machine."""
        return _lacks("rsync", "rsync")

    def deploy(self, place: Place, version: Version) -> Done:
        """``rsync`` over ssh onto whatever lies there."""
        device = place.device
        shell = " ".join(["ssh", *_ssh_options(place), "-p", str(device.port)])
        target = f"{_login(device)}:{place.folder}/"
        return Done(_timed(["rsync", self._options, "-e", shell, f"{version.folder}/", target], place)[0])


WAYS: dict[str, Way] = {way.name: way for way in (Edgepack(), Scp(), Rsync("-a"), Rsync("-az"))}


def check(way: Way, place: Place, version: Version) -> None:
    """Whether every byte of the version, and nothing else, is what an application would use now.

    Raises:
        Failed: It is not.
    """
    found = digests(way.live(place))
    wrong = sorted(
        path for path in version.files.keys() | found if version.files.get(path) != found.get(path)
    )
    if wrong:
        raise Failed(f"{way.name}: the board does not hold the version: {', '.join(wrong[:3])}")


def _lacks(program: str, package: str) -> str | None:
    return None if shutil.which(program) else f"{program} is not installed (Debian: {package})"


def _login(device: Device) -> str:
    return f"{device.user}@{device.host}"


def _ssh_options(place: Place) -> list[str]:
    """What a line in ~/.ssh/config would say: key and known host; nothing of the user's own settings."""
    known = place.scratch / "known_hosts"
    known.write_text(f"[{place.device.host}]:{place.device.port} {place.device.host_key}\n")
    settings = {
        "IdentityFile": place.device.identity_file,
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": known,
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "LogLevel": "ERROR",
    }
    return ["-F", "none", *(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))]


def _timed(argv: list[str], place: Place) -> tuple[float, str]:
    """Seconds from the start of a command to its end, and its standard output.

    Raises:
        Failed: It ended with another code than 0.
    """
    environment = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
    environment |= {
        "HOME": str(place.scratch),  # no ~/.ssh/config of the user's in any of them
        "XDG_CONFIG_HOME": str(place.scratch / "config"),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH")))),
    }
    began = time.perf_counter()
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise Failed(f"{argv[0]} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    return seconds, done.stdout
