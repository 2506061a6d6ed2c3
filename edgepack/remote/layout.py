"""The layout of releases on a board.

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
from edgepack.errors import UsageError
from edgepack.remote.workdir import work_path

SCRATCH = ".scratch"

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
