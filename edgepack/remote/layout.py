"""The layout of releases on a board, and its current state.

<work_dir>/<name>/releases/<digest>/   unpacked releases; names with a leading dot are unfinished
<work_dir>/<name>/current              link to the release in use
<work_dir>/<name>/previous             link to the previous release
<work_dir>/<name>/history              one line per install or rollback
<work_dir>/<name>/.lock                held while releases are changed
<work_dir>/.scratch/                   bundles unpacked for one run
"""

import posixpath
import re
from dataclasses import dataclass

from edgepack.bundle.layout import MANIFEST
from edgepack.bundle.manifest import Manifest
from edgepack.errors import DeployError, InputError, UsageError
from edgepack.remote.session import Session
from edgepack.spec import SchemaVersionError

SCRATCH = ".scratch"
TIMEOUT_S = 600.0  # timeout of scripts that hash or remove a release on a slow card

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_DIGEST = re.compile(r"[0-9a-f]{64}")

# Only the wanted release is hashed, and only if it is current. sha256sum prints English under LC_ALL=C;
# lines without OK are failures.
_INSPECT = """\
root=$1
wanted=$2
cd "$root" 2>/dev/null || exit 0
echo "current $(readlink current 2>/dev/null)"
echo "previous $(readlink previous 2>/dev/null)"
for entry in releases/* releases/.[!.]*; do
  if [ -d "$entry" ]; then echo "entry ${entry#releases/}"; fi
done
if [ -n "$wanted" ] && [ "$(readlink current 2>/dev/null)" = "releases/$wanted" ] && cd "releases/$wanted"; then
  LC_ALL=C sha256sum -c - 2>/dev/null | while read -r line; do echo "sum $line"; done
fi
exit 0
"""


def work_path(work_dir: str) -> str:
    """``work_dir`` as a path for shells and SFTP: relative paths start in the login directory."""
    path = posixpath.normpath(work_dir.removeprefix("~/") if work_dir != "~" else ".")
    return f"./{path}" if path.startswith("-") else path


def root_of(manifest: Manifest, work_dir: str) -> str:
    """The folder for a release's name on the board. A baseline has a folder of its own, so it never replaces a release."""
    name = manifest.name if manifest.candidate == "release" else f"{manifest.name}-{manifest.candidate}"
    return root(name, work_dir)


def root(name: str, work_dir: str) -> str:
    """The folder for a release's name on the board.

    Raises:
        UsageError: ``name`` is not a release's name.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not the name of a release",
            next="use the recipe's name: lower case, no slashes",
        )
    return posixpath.join(work_path(work_dir), name)


def checksums(manifest: Manifest) -> str:
    """The input of ``sha256sum -c`` in a release's folder: all files including the manifest."""
    lines = [f"{entry.sha256}  {entry.path}\n" for entry in manifest.files]
    return "".join([*lines, f"{manifest.digest}  {MANIFEST}\n"])


@dataclass(frozen=True)
class Inspection:
    """The state of the board for one release's name."""

    current: str | None  # digest
    previous: str | None
    entries: tuple[str, ...]  # all folders in releases/, including unfinished ones
    intact: bool  # the wanted release is current and intact

    @property
    def digests(self) -> tuple[str, ...]:
        """The finished releases."""
        return tuple(entry for entry in self.entries if _DIGEST.fullmatch(entry))


def inspect(session: Session, root: str, wanted: Manifest | None = None) -> Inspection:
    """Read the board's state in one round trip; nothing is changed.

    Raises:
        DeployError: The board could not run the script.
        UnreachableError: The connection was lost.
    """
    digest = wanted.digest if wanted else ""
    sums = checksums(wanted) if wanted else ""
    answer = script(session, _INSPECT, root, digest, stdin=sums)
    found: dict[str, list[str]] = {"current": [], "previous": [], "entry": [], "sum": []}
    for line in answer.splitlines():
        word, _, rest = line.partition(" ")
        if word in found and rest:
            found[word].append(rest)
    good = sum(line.endswith(": OK") for line in found["sum"])
    return Inspection(
        current=_link(found["current"]),
        previous=_link(found["previous"]),
        entries=tuple(found["entry"]),
        intact=wanted is not None and good == len(wanted.files) + 1 == len(found["sum"]),
    )


def script(session: Session, text: str, *arguments: str, stdin: str = "") -> str:
    """Run a shell script on the board and return its output.

    Raises:
        DeployError: It failed; the board is unchanged, since scripts use atomic renames.
        UnreachableError: The connection was lost, or it took too long.
    """
    argv = ["/bin/sh", "-c", text, "edgepack", *arguments]
    completed = session.run(argv, stdin=stdin.encode(), timeout=TIMEOUT_S)
    output = completed.stdout.decode(errors="replace")
    if completed.returncode != 0:
        raise DeployError(
            "a step on the board failed",
            where=session.name,
            why=(completed.stderr.decode(errors="replace") or output).strip()
            or f"exit code {completed.returncode}",
            state="the current release is unchanged",
            next="correct the cause, then re-deploy",
        )
    return output


def read_manifest(session: Session, folder: str) -> Manifest | None:
    """The manifest of an unpacked release on the board; None if it is missing or damaged.

    Raises:
        SchemaVersionError: A newer edgepack wrote it.
        UnreachableError: The connection was lost.
    """
    data = session.read(posixpath.join(folder, MANIFEST))
    if data is None:
        return None
    try:
        return Manifest.parse(data, where=f"{session.name}:{folder}")
    except SchemaVersionError:
        raise
    except InputError:
        return None


def _link(values: list[str]) -> str | None:
    digest = values[0].removeprefix("releases/") if values else ""
    return digest if _DIGEST.fullmatch(digest) else None
