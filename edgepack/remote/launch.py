"""What a board's login shell gets to run a program: one line that every shell reads alike.

dash, bash, ash, csh, tcsh, fish, ksh and zsh agree on words of letters, digits and ``./_-``, and on single quotes around
anything but a newline, an exclamation mark (csh), two backslashes (fish) and the quote.
"""

import re
import secrets
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_PLAIN_WORD = re.compile(r"[A-Za-z0-9./_-]+")


@dataclass(frozen=True)
class Launch:
    """How a program is started.

    Attributes:
        line: What the login shell gets.
        mark: The last word of a line on stdout, and the last but one of a line on stderr, after which the program's own
            output begins; the last word on stderr is the number of its process group.
        shown: The command, for messages.
        header: What the program reads first from its input.
        stop: The line that ends a process group; without it, the program ends by itself at the end of its input.
    """

    line: str
    mark: str
    shown: str
    header: bytes = b""
    stop: Callable[[str], str] | None = None


def launched(agent: str, argv: Sequence[str]) -> Launch:
    """A command that the agent at this path on the board runs; its words go over the agent's input."""
    nonce = secrets.token_hex(8)
    words = b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in argv)
    return Launch(
        line=_program(agent, f"exec {nonce}"),
        mark=f"edgepack-{nonce}",
        shown=shlex.join(argv),
        header=f"{nonce} {len(words)}\n".encode() + words,
        stop=lambda group: _program(agent, f"stop {group}"),
    )


def plain(script: str) -> Launch:
    """A script for the board's /bin/sh.

    The mark is broken in two, so that a shell that prints its command line (set -x) does not print the mark.
    """
    if forbidden := [it for it in ("'", "\n", "!", r"\\") if it in script]:
        raise ValueError(f"a script for all shells cannot have {forbidden}")
    mark = f"edgepack-{secrets.token_hex(8)}"
    say = mark.replace("-", '-""')
    return Launch(f"exec /bin/sh -c 'echo {say}; echo {say} $$ >&2; {script}'", mark, "a shell script")


def shell_word(text: str) -> str:
    """A word for the script of ``plain``, whatever characters it has; it does not end with a newline."""
    if _PLAIN_WORD.fullmatch(text):
        return text
    octal = "".join(f"\\{byte:03o}" for byte in text.encode())
    return f'"$(printf "{octal}")"'


def _program(path: str, words: str) -> str:
    if _PLAIN_WORD.fullmatch(path):
        return f"exec {path} {words}"
    return f"exec /bin/sh -c 'exec {shell_word(path)} {words}'"
