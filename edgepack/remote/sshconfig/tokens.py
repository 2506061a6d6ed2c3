"""Tokens (``%h``), environment variables (``${NAME}``) and ``~`` in values (ssh_config(5), TOKENS)."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from edgepack.errors import UnreachableError

_ENVIRONMENT = re.compile(r"\$\{([^}]*)(\}?)")
_PART = re.compile(r"\$\{[^}]*\}?|%.?", re.DOTALL)
# A name with one of these could be taken for code by the shell that runs a command of the configuration.
_SHELL = re.compile(r"""[\s\x00-\x1f\x7f'"`$\\;&<>|(){}*?]""")


def expand(text: str, tokens: Mapping[str, str], *, environment: bool = False) -> str:
    """Replace ``%x`` by ``tokens["x"]``, ``%%`` by a percent sign and, if asked for, ``${NAME}`` by the variable.

    Raises:
        ValueError: an unknown token, a variable that is not set, or a bracket that is not closed.
    """

    def value(found: re.Match[str]) -> str:
        part = found[0]
        if part.startswith("%"):
            if part == "%%":
                return "%"
            if part[1:] not in tokens:
                raise ValueError(f"the token {part!r} has no meaning here")
            return tokens[part[1:]]
        return _variable(part) if environment else part

    return _PART.sub(value, text)


def _variable(part: str) -> str:
    found = _ENVIRONMENT.fullmatch(part)
    if found is None or not found[1] or not found[2]:
        raise ValueError(f"{part!r} is not ${{NAME}}")
    if found[1] not in os.environ:
        raise ValueError(f"the environment variable {found[1]} is not set")
    return os.environ[found[1]]


def expand_path(text: str, tokens: Mapping[str, str]) -> Path:
    """A path with ``~``, tokens and environment variables replaced.

    Raises:
        ValueError: as ``expand``, or a user of ``~user`` who does not exist.
    """
    return Path(expand(expand_home(text), tokens, environment=True))


def expand_home(text: str) -> str:
    """A path with a leading ``~`` or ``~user`` replaced; raises ValueError if there is no such user."""
    expanded = os.path.expanduser(text)  # noqa: PTH111 - Path would drop a trailing slash, and "." of a pattern
    if expanded.startswith("~"):
        raise ValueError(f"there is no user of the name in {text!r}")
    return expanded


def check_host(name: str) -> None:
    """Refuse a host name that no host can have, before it is put into a command or a file name.

    Raises:
        UnreachableError: it is empty, starts with ``-``, or has blanks, control or shell characters.
    """
    if not name or name.startswith("-") or _SHELL.search(name):
        raise UnreachableError(
            f"{name!r} is not a host name",
            why="a host name is not empty, does not begin with - and has no blanks, control or shell characters",
            next="correct host in devices.yaml, or HostName or ProxyJump in ~/.ssh/config",
        )


def check_for_shell(values: Mapping[str, str], option: str) -> None:
    """Refuse to put names with shell characters into a command line.

    Raises:
        UnreachableError: one of ``values`` (name by what it is) has such a character or begins with ``-``.
    """
    for what, value in values.items():
        if value.startswith("-") or _SHELL.search(value):
            raise UnreachableError(
                f"the {what} {value!r} cannot be used with {option}",
                why="a shell runs the command, and would not take the name as one word",
                next=f"correct the {what}, or write it into {option} itself instead of its token",
            )
