"""System programs that this benchmark runs, and the Debian packages that contain them."""

import re
import shutil
from pathlib import Path

from benchmarks.kit.processes import SAID, ProcessFailed, run
from edgepack.errors import EdgepackError, UsageError

LLVM = 16  # the first with a scheduling model of the Neoverse N1, which has the Cortex-A76's pipeline
_PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def find(program: str, package: str) -> str:
    """Return the path of a program.

    Raises:
        UsageError: It is not installed; names the Debian package.
    """
    path = shutil.which(program, path=":".join(_PLACES))
    if path is None:
        raise UsageError(f"{program} is not installed", next=f"apt-get install {package}")
    return path


def qemu() -> str:
    """Return qemu-aarch64 with plugin support, which requires the dynamically linked build.

    Raises:
        UsageError: It is missing, or cannot load plugins.
    """
    program = find("qemu-aarch64", "qemu-user")
    if "-plugin" not in output([program, "--help"]):
        raise UsageError(
            f"{program} cannot load plugins",
            why="it was built without them; Debian's qemu-user supports them, qemu-user-static does not",
            next="apt-get install qemu-user",
        )
    return program


def llvm(tool: str) -> str:
    """Return the newest installed ``llvm-mca`` or ``llvm-objdump``, with or without a version in its name.

    Raises:
        UsageError: It is missing, or older than ``LLVM``.
    """
    names = [f"{tool}-{number}" for number in range(99, LLVM - 1, -1)] + [tool]
    installed = (shutil.which(name, path=":".join(_PLACES)) for name in names)
    newest = next(filter(None, installed), None)
    why = f"{newest} is {llvm_version(newest)}" if newest else "it is not installed"
    if newest is None or int(llvm_version(newest).partition(".")[0]) < LLVM:
        wanted = f"{tool} of LLVM {LLVM} or later is not installed"
        raise UsageError(wanted, why=why, next="apt-get install llvm-19")
    return newest


def llvm_version(tool: str) -> str:
    """Return the version, e.g. 19.1.7."""
    match = re.search(r"LLVM version ([\d.]+)", output([tool, "--version"]))
    if match is None:
        raise EdgepackError(f"{tool} does not print its version", next="apt-get install llvm-19")
    return match.group(1)


def output(argv: list[str], text: str | None = None) -> str:
    """Return a program's output; ``text`` is its standard input.

    Raises:
        EdgepackError: It failed; the end of its output is in ``why``.
    """
    try:
        return run(argv, text=text)
    except ProcessFailed as error:
        raise EdgepackError(
            f"{Path(argv[0]).name} failed: it {error.how}",
            why=error.said[-SAID:] or "it printed nothing",
            next=f"to reproduce, run: {' '.join(argv)}",
        ) from error
