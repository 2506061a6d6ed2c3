"""Every error shown to users, one class per exit code.

    EdgepackError                 1   a bug, or an unclassified failure
    ├── UsageError                2   wrong arguments
    │   ├── ConfigError           2   one or more problems in files, each with file:line:column
    │   ├── StrategyError         2   a strategy failed, or returned candidates that cannot be built
    │   └── InputError            2   a model, weights or data file that cannot be used
    │       ├── ImportDiffersError  2 an import that changes what the model computes
    │       └── UnsupportedError  2   a model that cannot be lowered, with every reason
    ├── GateError                 3   the release was built and measured, and a gate failed
    ├── UnreachableError          4   the board cannot be reached, or stopped responding
    │   ├── AgentError            4   the agent on the board failed or was killed
    │   └── TimedOutError         4   a command on the board did not end in time and was killed
    ├── DeployError               5   the deploy failed; the board still runs its previous release
    │   └── PreflightError        5   the board cannot take this release; nothing was sent
    ├── IntegrityError            6   contents do not match their digest
    │   └── TrustError            6   an unknown or changed host key; a file with pickled code
    ├── FleetError                7   some of the targets failed
    ├── LockedError              75   another process holds the lock
    └── Interrupted             130   Ctrl-C, SIGTERM, SIGHUP

An error says what failed (``message``), ``where`` (file:line:column, device, stage), ``why``, the
resulting ``state``, and the ``next`` command or step. Only the message is required.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from shlex import quote
from typing import ClassVar

SHOWN_NODES = 8


def render(
    message: str,
    *,
    where: str | None = None,
    why: str | None = None,
    state: str | None = None,
    next: str | None = None,  # noqa: A002 - as in EdgepackError
) -> str:
    """An error's fields as the lines a terminal shows, without colour; further lines of a field are indented."""
    parts = [f"error: {where}: {message}" if where else f"error: {message}"]
    parts += [
        f"  {label}: {text}" for label, text in (("why", why), ("state", state), ("next", next)) if text
    ]
    return "\n".join(map(_indent, parts))


def _indent(part: str) -> str:
    """A part of an error whose further lines cannot be taken for parts of their own."""
    return part.replace("\n", "\n    ")


class EdgepackError(Exception):
    """The root of all errors that are shown to users without a traceback."""

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        why: str | None = None,
        state: str | None = None,
        next: str | None = None,  # noqa: A002 - the field's plain name is clearest at the raise site
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.why = why
        self.state = state
        self.next = next
        self._added: list[str] = []

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]  # add_note adds
        """What a traceback shows below its last line, for programs that do not catch the error."""
        return [self.render(), *self._added]

    def add_note(self, note: str, /) -> None:
        """Add a line to what a traceback shows."""
        self._added.append(note)

    def rename(self, folder: str, name: str, command: str) -> None:
        """Name ``name`` in place of every file in ``folder``, and ``command``, quoted, in the next step."""
        paths = re.compile(re.escape(folder) + r"[\w./-]*")
        for field in ("message", "where", "why", "state"):
            text = getattr(self, field)
            setattr(self, field, text and paths.sub(lambda _: name, text))
        self.next = self.next and paths.sub(lambda _: quote(command), self.next)
        self.args = (self.message,)

    def to_json(self) -> dict[str, object]:
        """The error as the ``error`` object of a JSON document."""
        fields = {"where": self.where, "why": self.why, "state": self.state, "next": self.next}
        return {
            "type": type(self).__name__,
            "message": self.message,
            **{k: v for k, v in fields.items() if v is not None},
            "exit_code": self.exit_code,
        }

    def render(self) -> str:
        """The error as the lines a terminal shows, without colour."""
        return render(self.message, where=self.where, why=self.why, state=self.state, next=self.next)


@contextmanager
def naming(folder: object, name: object, command: object) -> Iterator[None]:
    """In errors of the block, name the user's file in place of a temporary copy in ``folder``.

    Args:
        folder: the temporary folder.
        name: what the user calls the file: its path, or module:callable.
        command: the file to give to commands in an error's next step.
    """
    try:
        yield
    except EdgepackError as error:
        error.rename(str(folder), str(name), str(command))
        raise


class UsageError(EdgepackError):
    """Wrong arguments on the command line or to the Python API."""

    exit_code = 2


@dataclass(frozen=True, order=True)
class Problem:
    """One problem in a file: ``line`` and ``column`` count from 1."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class ConfigError(UsageError):
    """All problems in a recipe, target, devices file or SSH configuration, reported at once."""

    def __init__(self, problems: list[Problem], *, next: str | None = None) -> None:  # noqa: A002
        self.problems = sorted(problems)
        count = len(problems)
        files = ", ".join(sorted({p.file for p in problems}))
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in {files}", next=next)

    def to_json(self) -> dict[str, object]:
        """The error with its list of problems."""
        return {**super().to_json(), "problems": [vars(p) for p in self.problems]}

    def render(self) -> str:
        """The list of problems, one per line, then their count."""
        return "\n".join([*(_indent(str(p)) for p in self.problems), super().render()])


class StrategyError(UsageError):
    """The caller's strategy failed, or proposed or promoted candidates that cannot be built."""


class InputError(UsageError):
    """A model, weights or data file that is missing, empty, corrupt or of the wrong shape."""


@dataclass(frozen=True)
class ModelProblem:
    """One reason why a model cannot be lowered; ``operator`` and ``node`` are empty unless it is about a node."""

    operator: str
    node: str
    message: str
    why: str
    next: str


class ImportDiffersError(InputError):
    """The imported model computes something different from the user's file."""


class UnsupportedError(InputError):
    """A model that cannot be lowered, with all of its problems."""

    def __init__(self, model: str, problems: list[ModelProblem]) -> None:
        self.model_problems = problems
        if len(problems) == 1:
            (only,) = problems
            where = f"{model}, node {only.node}" if only.node else model
            super().__init__(only.message, where=where, why=only.why or None, next=only.next or None)
        else:
            super().__init__(f"{model} cannot be compiled: {len(problems)} problems")

    def rename(self, folder: str, name: str, command: str) -> None:
        """As for every error, in all of its problems."""
        super().rename(folder, name, command)
        alone = [EdgepackError(p.message, why=p.why, next=p.next) for p in self.model_problems]
        for each in alone:
            each.rename(folder, name, command)
        self.model_problems = [
            replace(problem, message=each.message, why=each.why or "", next=each.next or "")
            for problem, each in zip(self.model_problems, alone, strict=True)
        ]

    def to_json(self) -> dict[str, object]:
        """The error with its list of problems."""
        return {**super().to_json(), "model_problems": [vars(problem) for problem in self.model_problems]}

    def render(self) -> str:
        """The problems, equal ones grouped with the names of their nodes, then their count."""
        if len(self.model_problems) == 1:
            return super().render()
        alike: dict[ModelProblem, list[str]] = {}
        for problem in self.model_problems:
            alike.setdefault(replace(problem, node=""), []).append(problem.node)
        parts = []
        for problem, nodes in alike.items():
            named = [node for node in nodes if node]
            shown = ", ".join(named[:SHOWN_NODES])
            more = f" and {len(named) - SHOWN_NODES} more" if len(named) > SHOWN_NODES else ""
            where = f"node{'s' if len(named) > 1 else ''} {shown}{more}" if named else None
            parts.append(render(problem.message, where=where, why=problem.why, next=problem.next))
        return "\n".join([*parts, super().render()])


class GateError(EdgepackError):
    """A gate of the recipe failed: the release was built and measured, but must not ship."""

    exit_code = 3


class UnreachableError(EdgepackError):
    """The device did not respond, or the connection was lost."""

    exit_code = 4


class AgentError(UnreachableError):
    """The agent on the board failed, was killed, or sent an invalid response."""


class TimedOutError(UnreachableError):
    """A command on the board did not end in time; it was killed."""


class DeployError(EdgepackError):
    """The deploy failed; the board still runs its previous release."""

    exit_code = 5


class PreflightError(DeployError):
    """The board lacks something that this release needs; nothing was sent."""


class IntegrityError(EdgepackError):
    """A file does not match its digest or signature."""

    exit_code = 6


class TrustError(IntegrityError):
    """Something that is not trusted: an unknown or changed host key, or a file with pickled code."""


class FleetError(EdgepackError):
    """Some of the targets failed; the others completed."""

    exit_code = 7


class LockedError(EdgepackError):
    """Another edgepack process holds the lock on this device or run."""

    exit_code = 75


class Interrupted(EdgepackError):  # noqa: N818 - it is not an error
    """Ctrl-C, SIGTERM or SIGHUP. Completed stages are kept."""

    exit_code = 130
