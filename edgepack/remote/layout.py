"""The layout of releases on a board, and scripts that run there.

<work_dir>/<name>/releases/<digest>/            a release; <digest>.1 and so on if that name is taken
<work_dir>/<name>/releases/.incoming-<digest>/  a transfer, published by a rename
<work_dir>/<name>/releases/.gone-<digest>/      a release that is being removed
<work_dir>/<name>/releases/.smoke-<random>/     outputs of a test inference
<work_dir>/<name>/current                       link to the release in use
<work_dir>/<name>/previous                      link to the previous release
<work_dir>/<name>/.link-<random>                one of these links before its rename
<work_dir>/<name>/history                       one line per install or rollback
<work_dir>/<name>/.lock                         held while releases are changed
<work_dir>/.scratch/                            bundles unpacked for one run
<work_dir>/.tools/                              the agent and runtime without a release
"""

import getpass
import os
import posixpath
import re
import socket

from edgepack.bundle.manifest import Manifest
from edgepack.errors import DeployError, UsageError
from edgepack.remote.session import Session
from edgepack.remote.workdir import work_path

SCRATCH = ".scratch"
TIMEOUT_S = 600.0  # timeout of scripts that hash or remove a release on a slow card

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def root_of(manifest: Manifest, work_dir: str) -> str:
    """The folder for a release's name on the board. A baseline has a folder of its own, so it never replaces a release."""
    name = manifest.name if manifest.candidate == "release" else f"{manifest.name}-{manifest.candidate}"
    return root(name, work_dir)


def is_name(text: str) -> bool:
    """Whether this can be the name of a release's folder on a board."""
    return _NAME.fullmatch(text) is not None


def root(name: str, work_dir: str) -> str:
    """The folder for a release's name on the board.

    Raises:
        UsageError: ``name`` is not a release's name.
    """
    if not is_name(name):
        raise UsageError(
            f"{name!r} is not the name of a release",
            next="use the recipe's name: lower case, no slashes",
        )
    return posixpath.join(work_path(work_dir), name)


def owner() -> str:
    """Who is changing a board, as user@host: one word of printable ASCII characters."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user, e.g. in a container
        user = str(os.getuid())
    text = f"{user}@{socket.gethostname()}".encode("ascii", "backslashreplace").decode("ascii")
    return re.sub(r"[^!-~]", "_", text)[:200]


def shell(text: str, *arguments: str) -> list[str]:
    """The command that runs a shell script with these arguments as $1, $2 and so on.

    With CDPATH in the user's environment, `cd` could go to another folder of the same name.
    """
    return ["/bin/sh", "-c", f"unset CDPATH\n{text}", "edgepack", *arguments]


def script(session: Session, text: str, *arguments: str) -> str:
    """Run a shell script on the board and return its output.

    Raises:
        DeployError: It failed.
        UnreachableError: The connection was lost, or it took too long.
    """
    completed = session.run(shell(text, *arguments), timeout=TIMEOUT_S)
    if completed.returncode != 0:
        said = (completed.stderr or completed.stdout).decode(errors="replace").strip()
        raise DeployError(
            "a step on the board failed",
            where=session.name,
            why=said or f"exit code {completed.returncode}",
            next="correct the cause, then re-deploy",
        )
    return completed.stdout.decode(errors="replace")
