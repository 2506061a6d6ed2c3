"""The static agent on a board: sent once through the board's shell, which is needed for nothing else.

It is ``<work_dir>/.tools/<digest>/edgepack-agent``; the digest is that of its sources and compiler. /bin/sh, cat, chmod,
mkdir and uname suffice. The agent itself compares its bytes with what was sent, and then takes its place with one
rename(2): what a cut leaves has another name, and a later run removes it.
"""

import posixpath
import re
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from edgepack.agent.build import agent_key, build_agent
from edgepack.agent.results import Settled
from edgepack.base.files import sha256_file
from edgepack.errors import DeployError, EdgepackError, PreflightError, TimedOutError, UnreachableError
from edgepack.remote.launch import shell_word
from edgepack.remote.process import QUIET_SHELL, Completed, last_lines
from edgepack.remote.transfer import explain
from edgepack.remote.workdir import TOOLS, work_path
from edgepack.toolchain.zig import MUSL

AGENT = "edgepack-agent"
ARCHITECTURES = ("aarch64", "x86_64")

PlainShell = Callable[[str, bytes, float], Completed]
"""Runs a script in the board's /bin/sh: the script, its input, and the seconds after which it is ended."""

_TIMEOUT_S = 60.0
_SEND_TIMEOUT_S = 600.0
_NOT_EXECUTABLE = 126  # a shell's exit code for a file that the system does not execute
_QUIET = "LC_ALL=C; export LC_ALL; umask 022; "


def place_agent(device: str, shell: PlainShell, work_dir: str) -> str:
    """Make sure that the static agent is on the board, and return its path there.

    One round trip if it is.

    Args:
        device: The device's name for messages.
        shell: Runs a script in the board's /bin/sh.
        work_dir: The device's folder, as in devices.yaml.

    Raises:
        PreflightError: The board has no Linux of a supported architecture.
        DeployError: The board cannot store or run the agent: the folder cannot be written or is mounted noexec, or the
            disk is full.
        UnreachableError: The connection was lost, or the login shell did not run a command.
    """
    root = posixpath.join(work_path(work_dir), TOOLS)
    folders = {arch: posixpath.join(root, agent_key(arch, MUSL)[:32]) for arch in ARCHITECTURES}
    cases = " ".join(f"{arch}) f={shell_word(folder)};;" for arch, folder in folders.items())
    found = _ask(
        device,
        shell,
        f"{_QUIET}uname -s; m=$(uname -m); echo $m; case $m in {cases} *) exit 0;; esac; "
        f'test -f "$f/{AGENT}" && exec "$f/{AGENT}" settle "$f"',
    )
    said = found.stdout.decode(errors="replace").splitlines()
    system, arch, *answer = (line.strip() for line in [*said, "", ""])
    if system != "Linux" or arch not in folders:
        raise _unsupported(device, found, f"{system} {arch}".strip())
    program = build_agent(arch, MUSL)
    path = posixpath.join(folders[arch], AGENT)
    if _settled(answer) != sha256_file(program):
        _send(device, shell, program, root, folders[arch])
    return path


def _ask(device: str, shell: PlainShell, script: str) -> Completed:
    """Run the first script."""
    try:
        return shell(script, b"", _TIMEOUT_S)
    except TimedOutError as error:
        raise UnreachableError(
            f"the login shell did not run a command within {_TIMEOUT_S:g} s",
            where=device,
            why=error.why,
            next=f"check that `ssh` with a command works; {QUIET_SHELL}",
        ) from error


def _send(device: str, shell: PlainShell, program: Path, root: str, folder: str) -> None:
    """Send the agent, and let it check itself and take its place; two round trips."""
    part = f".{AGENT}.{secrets.token_hex(4)}.part"
    begin = f"{_QUIET}r={shell_word(root)}; f={shell_word(folder)}; p={part}; "
    sent = shell(
        f'{begin}for d in "$r" "$f"; do if test -h "$d"; then echo "$d is a link" >&2; exit 1; fi; done; '
        'mkdir -p "$f" && cat >"$f/$p"; s=$?; test $s = 0 && test -s "$f/$p" && echo arrived && exit 0; '
        'rm -f "$f/$p"; exit $s',
        program.read_bytes(),
        _SEND_TIMEOUT_S,
    )
    if sent.returncode != 0:
        raise _refused(device, "cannot be stored", folder, sent)
    if b"arrived" not in sent.stdout:
        raise DeployError(
            "the agent does not arrive on the board",
            where=device,
            why="the start-up file of the login shell may read the input of commands",
            state="nothing was sent to the board",
            next=QUIET_SHELL,
        )
    sum_ = sha256_file(program)
    done = shell(
        f'{begin}chmod 755 "$f/$p" && "$f/$p" settle "$f" "$p" {sum_}; s=$?; rm -f "$f/$p"; exit $s',
        b"",
        _TIMEOUT_S,
    )
    if _settled(done.stdout.decode(errors="replace").splitlines()) != sum_:
        raise _refused(device, "does not run", folder, done)


def _settled(lines: Sequence[str]) -> str | None:
    """The sha256 of the agent that says it is in its place; None if it does not say so."""
    for line in lines:
        try:
            return Settled.model_validate_json(line).sha256
        except ValidationError:
            continue
    return None


def _unsupported(device: str, found: Completed, system: str) -> EdgepackError:
    if not system:
        return DeployError(
            "the board does not say what it is",
            where=device,
            why=f"uname failed: {last_lines(found.stderr) or 'it printed nothing'}",
            next="check that `ssh` with the command  uname -sm  works",
        )
    return PreflightError(
        "edgepack has no program for this board",
        where=device,
        why=f"it runs {system}; supported are Linux on {' and '.join(ARCHITECTURES)}",
        state="nothing was sent to the board",
        next="install a 64-bit Linux image on the board",
    )


def _refused(device: str, what: str, folder: str, done: Completed) -> DeployError:
    said = last_lines(done.stderr) or f"exit code {done.returncode}, and no message"
    if what == "does not run" and done.returncode == _NOT_EXECUTABLE:
        why = f"the file system is mounted noexec, or the system forbids the program: {said}"
        following = "set work_dir in devices.yaml to a folder that is not mounted noexec"
    else:
        reason, following = explain(said)
        why = reason if reason == said else f"{reason} ({said})"
    return DeployError(
        f"the agent {what} in {folder}",
        where=device,
        why=re.sub(r"\s*\n\s*", "; ", why),
        state="nothing else was sent to the board",
        next=following,
    )
