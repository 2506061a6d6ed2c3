"""The criteria of ``Match`` (ssh_config(5))."""

import ipaddress
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from edgepack.remote.sshconfig.context import HostOptions, local_user, openssh_version
from edgepack.remote.sshconfig.tokens import check_for_shell, expand
from edgepack.remote.sshconfig.words import in_list

_EXEC_TIMEOUT_S = 60.0
_FINAL_ASKS_TWICE = (10, 1)  # before this version of OpenSSH, "!final", too, made ssh read the files twice


def matches_all(context: HostOptions, words: Sequence[str]) -> bool:
    """Whether all criteria of a ``Match`` line apply.

    Raises:
        ValueError: a criterion is unknown, or lacks its value, or has one that cannot be read.
        UnreachableError: a name with shell characters would reach the command of ``exec``.
    """
    result, count, left = True, 0, list(words)
    if not left:
        raise ValueError("Match needs a criterion")
    while left:
        word = left.pop(0)
        negated = word.startswith("!")
        name, equals, value = word.removeprefix("!").partition("=")
        name = name.lower()
        if name == "all":
            if count > 1 or left:
                raise ValueError("Match all stands alone, or after canonical or final")
            return result and not negated
        count += 1
        if name in _BARE:
            found = _BARE[name](context, negated)
        else:
            value = value if equals else _next(name, left)
            found = _holds(context, name, value, needed=result)
        result = result and found is not negated
    return result


def _next(name: str, left: list[str]) -> str:
    if not left:
        raise ValueError(f"Match {name} needs a value")
    return left.pop(0)


def _holds(context: HostOptions, name: str, value: str, *, needed: bool) -> bool:
    """Whether a criterion with a value applies; a command is run only if it is needed for the result."""
    if name not in _WITH_VALUE:
        raise ValueError(f"Match has no criterion {name!r}")
    if not value and name not in _MAYBE_EMPTY:
        raise ValueError(f"Match {name} needs a value")
    if name == "exec" and not needed:
        _command(context, value)  # its tokens are checked all the same
        return False
    return _WITH_VALUE[name](context, value)


def _final(context: HostOptions, negated: bool) -> bool:
    context.wants_final |= not negated or _older(_FINAL_ASKS_TWICE)
    return context.final


def _canonical(context: HostOptions, _negated: bool) -> bool:
    return context.final


def _older(version: tuple[int, int]) -> bool:
    found = re.match(r"OpenSSH_(\d+)\.(\d+)", openssh_version() or "")
    return found is not None and (int(found[1]), int(found[2])) < version


def _pattern_list(name: str, patterns: str) -> bool:
    return in_list(name, patterns.split(","))


def _maybe_empty(name: str, patterns: str) -> bool:
    return _pattern_list(name, patterns) if name else not patterns


def _version(_context: HostOptions, patterns: str) -> bool:
    version = openssh_version()
    if version is None:
        raise ValueError("Match version asks for the version of ssh, which is not installed")
    return _pattern_list(version, patterns)


def _local_network(_context: HostOptions, networks: str) -> bool:
    wanted = [ipaddress.ip_network(network) for network in networks.split(",")]
    return any(address in network for address in _addresses() for network in wanted)


def _addresses() -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The addresses of this machine's interfaces that are up."""
    try:
        routes = Path("/proc/net/fib_trie").read_text(encoding="ascii")
        # Absent if IPv6 is switched off.
        six = Path("/proc/net/if_inet6")
        lines = six.read_text(encoding="ascii").splitlines() if six.exists() else []
    except OSError as error:
        raise ValueError(f"Match localnetwork: this machine's addresses cannot be read: {error}") from error
    four = re.findall(r"\|-- (\S+)\s+/32 host LOCAL", routes)
    return [
        *(ipaddress.IPv4Address(text) for text in dict.fromkeys(four)),
        *(ipaddress.IPv6Address(int(line.split()[0], 16)) for line in lines),
    ]


def _command(context: HostOptions, command: str) -> str:
    tokens = context.tokens()
    used = {part[1] for part in re.findall(r"%.", command)}
    names = {"host": "hn", "host key alias": "k", "user": "r", "jump host": "j"}
    check_for_shell(
        {
            what: tokens[name]
            for what, letters in names.items()
            for name in letters
            if name in used and tokens[name]
        },
        "Match exec",
    )
    return expand(command, tokens)


def _exec(context: HostOptions, command: str) -> bool:
    shell = os.environ.get("SHELL") or "/bin/sh"
    try:
        done = subprocess.run(
            [shell, "-c", _command(context, command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_EXEC_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"Match exec: the command still ran after {_EXEC_TIMEOUT_S:g} s") from error
    except OSError as error:
        raise ValueError(f"Match exec: {error}") from error
    if done.returncode < 0:
        raise ValueError(f"Match exec: the command was killed by signal {-done.returncode}")
    return done.returncode == 0


_BARE: dict[str, Callable[[HostOptions, bool], bool]] = {"canonical": _canonical, "final": _final}
# edgepack asks as `ssh -G HOST` does: no command is given, so the session is a shell.
_WITH_VALUE: dict[str, Callable[[HostOptions, str], bool]] = {
    "command": lambda _context, patterns: _maybe_empty("", patterns),
    "exec": _exec,
    "host": lambda context, patterns: _pattern_list(context.real_host().lower(), patterns.lower()),
    "localnetwork": _local_network,
    "localuser": lambda _context, patterns: _pattern_list(local_user(), patterns),
    "originalhost": lambda context, patterns: _pattern_list(context.asked.lower(), patterns.lower()),
    "sessiontype": lambda _context, patterns: _pattern_list("shell", patterns),
    "tagged": lambda context, patterns: _maybe_empty(context.first("tag") or "", patterns),
    "user": lambda context, patterns: _pattern_list(context.user(), patterns),
    "version": _version,
}
_MAYBE_EMPTY = frozenset({"command", "tagged"})
