"""System programs that virtual boards need."""

import shutil

from edgepack.errors import UsageError


def find(program: str, package: str) -> str:
    """The path of a system program.

    Raises:
        UsageError: it is not installed; names the Debian package.

    """
    found = shutil.which(program, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        raise UsageError(
            f"{program} is not installed, but virtual boards need it",
            next=f"apt-get install {package}, or make setup as root",
        )
    return found
