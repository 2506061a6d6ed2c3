"""The system programs this benchmark runs, and which Debian package brings each."""

import re
import shutil
from pathlib import Path

from benchmarks.kit.processes import SAID, ProcessFailed, run
from edgepack.errors import EdgepackError, UsageError

LLVM = 16  # the first with a scheduling model of the Neoverse N1, which is the Cortex-A76's pipeline
_PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def find(program: str, package: str) -> str:
    """The path of a program.

    Raises:
        UsageError: It is not installed; names the Debian package.
    """
    found = shutil.which(program, path=":".join(_PLACES))
    if found is None:
        raise UsageError(f"{program} is not installed", next=f"apt-get install {package}")
    return found


def qemu() -> str:
    """qemu-aarch64 with plugins: the dynamically linked one.

    Raises:
        UsageError: There is none, or it cannot load plugins.
    """
    program = find("qemu-aarch64", "qemu-user")
    if "-plugin" not in output([program, "--help"]):
        raise UsageError(
            f"{program} cannot load plugins",
            why="it was built without them; Debian's qemu-user has them, qemu-user-static does not",
            next="apt-get install qemu-user",
        )
    return program


def llvm(tool: str) -> str:
    """The newest installed ``llvm-mca`` or ``llvm-objdump``, with its version in its name or not.

    Raises:
        UsageError: There is none, or it is older than ``LLVM``.
    """
    names = [f"{tool}-{number}" for number in range(99, LLVM - 1, -1)] + [tool]
    installed = (shutil.which(name, path=":".join(_PLACES)) for name in names)
    newest = next(filter(None, installed), None)
    why = f"{newest} is {llvm_version(newest)}" if newest else "there is none here"
    if newest is None or int(llvm_version(newest).partition(".")[0]) < LLVM:
        wanted = f"{tool} of LLVM {LLVM} or later is not installed"
        raise UsageError(wanted, why=why, next="apt-get install llvm-19")
    return newest


def llvm_version(tool: str) -> str:
    """For example 19.1.7."""
    match = re.search(r"LLVM version ([\d.]+)", output([tool, "--version"]))
    if match is None:
        raise EdgepackError(f"{tool} does not tell its version", next="apt-get install llvm-19")
    return match.group(1)


def output(argv: list[str], text: str | None = None) -> str:
    """What a program prints; ``text`` is its standard input.

    Raises:
        EdgepackError: It failed; its last words are in ``why``.
    """
    try:
        return run(argv, text=text)
    except ProcessFailed as error:
        raise EdgepackError(
            f"{Path(argv[0]).name} failed: it {error.how}",
            why=error.said[-SAID:] or "it said nothing",
            next=f"run it by hand: {' '.join(argv)}",
        ) from error
