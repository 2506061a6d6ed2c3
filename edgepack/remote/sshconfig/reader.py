"""Reads configuration files: ``Host``, ``Match``, ``Include`` and the options in their blocks."""

import glob
import os
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote

from edgepack.errors import ConfigError, Problem
from edgepack.remote.sshconfig.context import HostOptions
from edgepack.remote.sshconfig.criteria import matches_all
from edgepack.remote.sshconfig.files import read_regular
from edgepack.remote.sshconfig.options import ACCUMULATED, ALIASES, READERS, UNUSED
from edgepack.remote.sshconfig.tokens import expand, expand_home
from edgepack.remote.sshconfig.words import in_list, keyword_of, split

_MAX_DEPTH = 16
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class ConfigFile:
    """A file to read; ``folder`` is where its relative includes are."""

    path: Path
    folder: Path
    own: bool  # the user's, whose includes may begin with ~
    checked: bool  # it must belong to the user or root, and nobody else may write it
    depth: int = 0  # of the files that include it


@dataclass
class Reader:
    """Reads files for one host. Problems are collected and raised together at the end, as ssh does."""

    context: HostOptions
    problems: list[Problem] = field(default_factory=list)

    def read(self, files: list[ConfigFile]) -> None:
        """Read files in order; the first value of an option stays.

        Raises:
            ConfigError: with every line that ssh would refuse.
            UnreachableError: a name with shell characters would reach a command.
        """
        for file in files:
            self._file(file, active=True, included=None)
            if self.problems:
                raise ConfigError(
                    self.problems,
                    next=f"correct them; ssh -G {quote(self.context.asked)} says what ssh makes of the file",
                )

    def _file(self, file: ConfigFile, *, active: bool, included: Problem | None) -> None:
        try:
            data = read_regular(file.path)
            status = file.path.stat()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return
        except PermissionError as error:
            if included is not None:  # ssh takes a configuration that it may not read as empty
                self._unreadable(file, included, error)
            return
        except OSError as error:
            self._unreadable(file, included or Problem(str(file.path), 1, 1, ""), error)
            return
        if file.checked and (status.st_uid not in (0, os.getuid()) or status.st_mode & _OTHERS_MAY_WRITE):
            message = "others than you may write this file, so ssh does not trust it: chmod go-w, or chown it"
            self.problems.append(Problem(str(file.path), 1, 1, message))
            return
        block = _Block(enclosing=active, applies=active)
        for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
            keyword, rest = keyword_of(line)
            if not keyword:
                continue
            column = len(line) - len(line.lstrip()) + 1
            at = Problem(str(file.path), number, column, "")
            try:
                self._line(file, at, keyword, rest, block)
            except ValueError as error:
                self.problems.append(replace(at, message=f"{keyword}: {error}"))

    def _unreadable(self, file: ConfigFile, at: Problem, error: OSError) -> None:
        self.problems.append(replace(at, message=f"{file.path} cannot be read: {error.strerror}"))

    def _line(self, file: ConfigFile, at: Problem, keyword: str, rest: str, block: "_Block") -> None:
        if not rest:
            raise ValueError("it has no value")
        if keyword == "host":
            block.applies = block.enclosing and self._host(split(rest))
        elif keyword == "match":
            found = matches_all(self.context, split(rest))
            block.applies = block.enclosing and found
        elif keyword == "include":
            self._include(file, at, split(rest), active=block.applies)
        else:
            self._option(ALIASES.get(keyword, keyword), rest, active=block.applies)

    def _host(self, patterns: list[str]) -> bool:
        if "" in patterns:
            raise ValueError("a pattern is empty")
        return in_list(self.context.host, patterns)

    def _include(self, file: ConfigFile, at: Problem, names: list[str], *, active: bool) -> None:
        if not names or "" in names:
            raise ValueError("a file name is empty")
        for name in names:
            expanded = expand(name, self.context.tokens(), environment=True)
            if expanded.startswith("~") and not file.own:
                raise ValueError(f"{expanded}: only a file of your own can include one by ~")
            pattern = file.folder / expand_home(expanded)
            for found in sorted(glob.glob(str(pattern))):  # noqa: PTH207 - Path.glob takes no absolute pattern
                if file.depth >= _MAX_DEPTH:
                    raise ValueError(f"files include each other more than {_MAX_DEPTH} deep")
                inner = replace(file, path=Path(found), checked=True, depth=file.depth + 1)
                self._file(inner, active=active, included=at)
                if self.problems:
                    return

    def _option(self, keyword: str, rest: str, *, active: bool) -> None:
        values = self.context.values
        if keyword not in READERS:
            ignored = values.get("ignoreunknown", ("",))[0].lower().split(",")
            if keyword not in UNUSED and not in_list(keyword, ignored):
                raise ValueError("no such option; to have it ignored, put a line IgnoreUnknown before it")
            split(rest)
            return
        value = READERS[keyword](rest)
        if not active:
            return
        if keyword in ACCUMULATED:
            values[keyword] = tuple(dict.fromkeys((*values.get(keyword, ()), *value)))
        elif keyword == "proxyjump":
            self._jump(value[0])
        elif (keyword, value) != ("connecttimeout", ("none",)):  # to ssh, this is the same as no line
            values.setdefault(keyword, value)

    def _jump(self, spec: str) -> None:
        values = self.context.values
        if "proxyjump" in values or ("proxycommand" in values and spec.lower() != "none"):
            return
        values["proxyjump"] = (spec,)
        if spec.lower() != "none":
            values["proxycommand"] = ("none",)


@dataclass
class _Block:
    enclosing: bool  # the line that includes the file applies
    applies: bool  # the Host or Match line above applies
