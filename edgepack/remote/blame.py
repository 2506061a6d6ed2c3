"""A release that fails on a board: whether the same files are right on this machine, so that the error blames the right side."""

import platform
import subprocess
from pathlib import Path
from shlex import quote

from edgepack.base.npy import parse_npy
from edgepack.base.temporary import temporary_folder
from edgepack.bundle.layout import AGENT, sample_input, sample_output
from edgepack.bundle.manifest import Manifest
from edgepack.config.host import describe
from edgepack.errors import DeployError
from edgepack.remote.smoke import TIMEOUT_S, compare


def blame(error: DeployError, folder: Path, manifest: Manifest) -> DeployError:
    """The error of a failed test inference, after the same inference on this machine.

    Only for releases that were built here: their agent is run.

    Args:
        error: as raised by :func:`edgepack.remote.smoke.smoke`.
        folder: the unpacked release.
        manifest: its manifest.
    """
    if not _runs_here(manifest):
        return error
    what, here = f"{manifest.name} {manifest.version}", _difference_here(folder, manifest)
    if here is None:
        return DeployError(
            f"{what} does not work on this board",
            where=error.where,
            why=f"{error.why}; the same files give the right result on this machine",
            state=error.state,
            next="is the device's target the board that it is? Compare: "
            f"edgepack devices info {quote(error.where or 'DEVICE')}; "
            f"edgepack targets show {quote(manifest.target.name)}",
        )
    return DeployError(
        f"{what} is wrong: its test inference fails on this machine, too",
        where=error.where,
        why=f"{error.why}; on this machine: {here}",
        state=error.state,
        next="the board is not the reason: please report it, with the recipe and its model",
    )


def _runs_here(manifest: Manifest) -> bool:
    target = manifest.target
    if target.device_kind != "cpu" or target.abi.arch != platform.machine():
        return False
    return set(target.cpu_features) <= set(describe()["cpu"]["features"])


def _difference_here(folder: Path, manifest: Manifest) -> str | None:
    """Why the test inference fails on this machine; None if it gives the sample's outputs."""
    words = [word for index in range(len(manifest.inputs)) for word in ("--input", sample_input(index))]
    with temporary_folder(prefix="edgepack-smoke-") as out:
        argv = [str(folder / AGENT), "run", "--model", manifest.model, *words, "--output-dir", str(out)]
        try:
            done = subprocess.run(argv, cwd=folder, capture_output=True, check=False, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return f"it did not end within {TIMEOUT_S:g} s"
        except OSError as failed:
            return f"its agent cannot be run: {failed.strerror}"
        if done.returncode:
            said = (done.stderr + done.stdout).decode(errors="replace").strip()[-400:]
            return f"its agent ended with {done.returncode}: {said}"
        for index in range(len(manifest.outputs)):
            path = sample_output(index)
            try:
                difference = compare(
                    parse_npy((out / Path(path).name).read_bytes()), parse_npy((folder / path).read_bytes())
                )
            except (OSError, ValueError) as failed:
                difference = str(failed)
            if difference:
                return f"{Path(path).name}: {difference}"
    return None
