"""The agent on a board without a release, for tuning and for `devices info`; for a GPU with TVM's runtime.

They are in ``<work_dir>/.tools/<digest>/``, laid out as in a bundle. The digest covers every byte. A set is compared
with it before it is used, sent once, and removed when it was not used for a day.
"""

import hashlib
import posixpath
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from edgepack.agent.build import build_agent
from edgepack.base.files import sha256_file
from edgepack.bundle import layout
from edgepack.bundle.manifest import EXECUTABLE, PLAIN
from edgepack.bundle.runtime import runtime_libs
from edgepack.config.target import Target
from edgepack.errors import DeployError, EdgepackError
from edgepack.remote.layout import good, script_bytes
from edgepack.remote.lock import BoardLock, lock
from edgepack.remote.session import Session
from edgepack.remote.staging import FLUSH
from edgepack.remote.survey import refuse_other_kind
from edgepack.remote.tree import (
    DESCRIBE,
    Tree,
    described,
    differences,
    folders_of,
    removal,
    remove,
    sections,
    with_folders,
)
from edgepack.remote.workdir import TOOLS, work_path
from edgepack.spec.runtime import BASE, CUDA
from edgepack.toolchain.zig import MUSL

# All sets with the wanted name; others that were not used for a day; and those that a killed run began to send.
_LIST = (
    DESCRIBE
    + """\
say "is $(kind "$1")"
[ "$(kind "$1")" = folder ] && cd "$1" || exit 0
digest=$2
set --
for entry in * .new-*; do
  case $entry in *[!0-9a-z.-]*) continue;; esac
  [ "$(kind "$entry")" != none ] || continue
  say "name $entry"
  [ "$(kind "$entry")" = folder ] || continue
  case $entry in
    "$digest"|"$digest".*) ;;
    .new-*)
      [ -d "$entry/set" ] || [ -n "$(find "./$entry" -prune -mmin +1)" ] || continue  # it may be taking its lock
      [ "$(kind "$entry/.lock")" = file ] && flock -n "$entry/.lock" true || continue;;
    *) [ -n "$(find "./$entry" -prune -mmin +1440)" ] || continue;;
  esac
  set -- "$@" "./$entry"
done
[ $# = 0 ] || trees "$@"
exit 0
"""
)
_COMPARE = 'cd "$1" && touch . && LC_ALL=C sha256sum -c - 2>/dev/null\nexit 0\n'
_FOLDERS = 'cd "$1" && shift && mkdir "$@"\n'
# Two runs may send the same tools at once: the second keeps the first's, and removes its own copy.
_FINISH = (
    FLUSH
    + """\
cd "$1" || exit
flush || { echo "the tools could not be written to the disk" >&2; exit 1; }
[ -d "../$2" ] || mv -T set "../$2"
"""
)
_SET = re.compile(r"([0-9a-f]{32})(\.[1-9][0-9]*)?")
_NEW = re.compile(r"\.new-[0-9a-f]{16}")
_FILE = re.compile(rf"({re.escape(layout.AGENT)}|lib/libtvm\w*\.so)")
_PART = re.compile(r"set/(bin|lib)/\.[\w.-]+\.[0-9a-f]{8}\.part")


def ensure_tools(session: Session, target: Target, work_dir: str) -> str:
    """Send the target's agent, and a GPU's runtime, to the board if they are missing or damaged; returns the agent's path.

    Raises:
        DeployError: the board cannot store them.
        UnreachableError: the connection was lost.
    """
    arch, gpu = target.abi.arch, target.device_kind == "cuda"
    files = {layout.AGENT: build_agent(arch, target.abi.libc if gpu else MUSL)}
    if gpu:
        files |= {layout.library(name): path for name, path in runtime_libs(arch, (*BASE, CUDA)).items()}
    sums = {name: sha256_file(path) for name, path in sorted(files.items())}
    digest = hashlib.sha256("".join(f"{name} {sha}\n" for name, sha in sums.items()).encode()).hexdigest()[
        :32
    ]
    root = posixpath.join(work_path(work_dir), TOOLS)
    taken, found = _listed(session, root, digest)
    right = with_folders({name: f"{_mode(name):o}" for name in files})
    name, number = digest, 0
    while name in taken:
        intact = name in found and not differences(found[name], right)
        if intact and _sound(session, posixpath.join(root, name), sums):
            return posixpath.join(root, name, layout.AGENT)
        number += 1
        name = f"{digest}.{number}"
    new = f".new-{secrets.token_hex(8)}"
    with lock(session, posixpath.join(root, new)) as held:
        try:
            _send(held, files, sums, name)
        finally:
            with suppress(EdgepackError):  # a board that was lost is cleaned by the next run
                _remove(session, root, {new: _staged(right)})
    return posixpath.join(root, name, layout.AGENT)


def _listed(session: Session, root: str, digest: str) -> tuple[set[str], dict[str, Tree]]:
    """The names that are taken and the folders of the wanted set, after the removal of forgotten ones."""
    mark = secrets.token_hex(8)
    answer = list(sections(script_bytes(session, f"mark=$3\n{_LIST}", root, digest, mark), mark))
    refuse_other_kind(session, root, answer)
    trees = {name: it.tree for name, it in described(answer).items()}
    wanted = {name: tree for name, tree in trees.items() if name.split(".")[0] == digest}
    _remove(session, root, {name: tree for name, tree in trees.items() if name not in wanted})
    return {words[1] for words, _ in answer if words[0] == "name"}, wanted


def _remove(session: Session, root: str, trees: Mapping[str, Tree]) -> None:
    """Remove the files of sets and of folders in which sets were sent; what else is there stays."""
    orders: list[str] = []
    for name, tree in trees.items():
        if _SET.fullmatch(name):
            orders += removal(name, tree, [path for path in tree if _FILE.fullmatch(path)])
        elif _NEW.fullmatch(name):
            own = [
                path for path in tree if _FILE.fullmatch(path.removeprefix("set/")) or _PART.fullmatch(path)
            ]
            orders += removal(name, tree, [".lock", "set/bin/x", "set/lib/x", *own])
    remove(lambda text, *rest, stdin: script_bytes(session, text, *rest, stdin=stdin).decode(), root, orders)


def _sound(session: Session, folder: str, sums: Mapping[str, str]) -> bool:
    """Whether all contents are right; the set is then marked as used."""
    lines = "".join(f"{sha}  {name}\n" for name, sha in sums.items())
    return sums.keys() <= good(script_bytes(session, _COMPARE, folder, stdin=lines).decode())


def _send(held: BoardLock, files: Mapping[str, Path], sums: Mapping[str, str], name: str) -> None:
    """Send the files to a folder of this run, and rename it to ``name`` when they are on the disk."""
    staged = posixpath.join(held.root, "set")
    folders = folders_of(files)
    held.script(_FOLDERS, held.root, "set", *(f"set/{folder}" for folder in folders))
    for path, source in files.items():
        held.session.put(source, posixpath.join(staged, path), mode=_mode(path))
    if not _sound(held.session, staged, sums):
        raise DeployError(
            "the agent on the board differs from what was sent",
            where=held.session.name,
            why="a faulty card or memory",
            next="check the board's storage (dmesg, fsck)",
        )
    held.script(_FINISH, held.root, name)


def _mode(path: str) -> int:
    return EXECUTABLE if layout.is_program(path) else PLAIN


def _staged(right: Tree) -> Tree:
    """The folder of a run while it sends."""
    return {".lock": "file", "set": "folder", **{f"set/{path}": kind for path, kind in right.items()}}
