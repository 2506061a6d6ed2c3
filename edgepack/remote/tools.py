"""An agent and the runtime for a GPU on a board without a release, for tuning and for `devices info`.

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
from edgepack.remote.lock import BoardLock, lock
from edgepack.remote.session import Session
from edgepack.remote.store import Line, ask, remove
from edgepack.remote.survey import refuse_other_kind
from edgepack.remote.tree import Tree, described, differences, folders_of, removal, with_folders
from edgepack.remote.workdir import TOOLS, work_path
from edgepack.spec.runtime import BASE, CUDA

_UNUSED_S = 86_400
_TAKING_S = 60  # a folder that has nothing but its lock file may just be taking it
_STAGED = "set"
_SET = re.compile(r"([0-9a-f]{32})(\.[1-9][0-9]*)?")
_NEW = re.compile(r"\.new-[0-9a-f]{16}")
_FILE = re.compile(rf"({re.escape(layout.AGENT)}|lib/libtvm\w*\.so)")
_PART = re.compile(r"set/(bin|lib)/\.[\w.-]+\.[0-9a-f]{8}\.part")


def ensure_tools(session: Session, target: Target, work_dir: str) -> str:
    """The path of an agent on the board that can run the target's kernels, which is sent if it is missing or damaged.

    For a CPU, that is the board's own. For a GPU, it is one for the target's glibc, beside the runtime that it loads.

    Raises:
        DeployError: the board cannot store them.
        UnreachableError: the connection was lost.
    """
    if target.device_kind == "cpu":
        return session.agent()
    arch = target.abi.arch
    files = {layout.AGENT: build_agent(arch, target.abi.libc)}
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
        if intact and _sound(session, root, name, sums):
            return posixpath.join(root, name, layout.AGENT)
        number += 1
        name = f"{digest}.{number}"
    new = f".new-{secrets.token_hex(8)}"
    with lock(session, posixpath.join(root, new)) as held:
        try:
            _send(held, files, sums, name)
        finally:
            with suppress(EdgepackError):  # a board that was lost is cleaned by the next run
                held.remove(_removal({new: _staged(right)}), root)
    return posixpath.join(root, name, layout.AGENT)


def _listed(session: Session, root: str, digest: str) -> tuple[set[str], dict[str, Tree]]:
    """The names that are taken and the folders of the wanted set, after the removal of forgotten ones."""
    answer = ask(session, "list", root, "", "")
    refuse_other_kind(session, root, answer)
    entries = {line["entry"]: line for line in answer if "entry" in line}
    trees = {name: it.tree for name, it in described(answer).items()}
    wanted = {name: tree for name, tree in trees.items() if name.split(".")[0] == digest}
    forgotten = {
        name: tree
        for name, tree in trees.items()
        if name not in wanted and _is_forgotten(name, tree, entries[name])
    }
    remove(session, root, _removal(forgotten))
    return set(entries), wanted


def _is_forgotten(name: str, tree: Tree, entry: Line) -> bool:
    """Whether a set was not used for a day, or the run that began to send it was killed."""
    if _NEW.fullmatch(name):
        return bool(entry["lock"] == "free" and ("set" in tree or entry["age"] > _TAKING_S))
    return bool(entry["age"] > _UNUSED_S)


def _removal(trees: Mapping[str, Tree]) -> list[str]:
    """Orders to remove the files of sets and of folders in which sets were sent; what else is there stays."""
    orders: list[str] = []
    for name, tree in trees.items():
        if _SET.fullmatch(name):
            orders += removal(name, tree, [path for path in tree if _FILE.fullmatch(path)])
        elif _NEW.fullmatch(name):
            own = [
                path for path in tree if _FILE.fullmatch(path.removeprefix("set/")) or _PART.fullmatch(path)
            ]
            orders += removal(name, tree, [".lock", "set/bin/x", "set/lib/x", *own])
    return orders


def _sound(session: Session, root: str, name: str, sums: Mapping[str, str]) -> bool:
    """Whether all contents are right; the set is then marked as used."""
    return described(ask(session, "use", root, name))[name].sums == sums


def _send(held: BoardLock, files: Mapping[str, Path], sums: Mapping[str, str], name: str) -> None:
    """Send the files to a folder of this run, and rename it to ``name`` when they are on the disk."""
    staged = posixpath.join(held.root, _STAGED)
    folders = [_STAGED, *(posixpath.join(_STAGED, folder) for folder in folders_of(files))]
    held.ask("fill", ".", stdin="".join(f"folder {folder}\n" for folder in folders).encode())
    for path, source in files.items():
        held.session.put(source, posixpath.join(staged, path), mode=_mode(path))
    if described(held.ask("check", _STAGED))[_STAGED].sums != sums:
        raise DeployError(
            "the agent on the board differs from what was sent",
            where=held.session.name,
            why="a faulty card or memory",
            next="check the board's storage (dmesg, fsck)",
        )
    root, new = posixpath.split(held.root)
    # Two runs may send the same tools at once: the second keeps the first's, and removes its own copy.
    held.remove([f"move {new}/{_STAGED} {name}"], root)


def _mode(path: str) -> int:
    return EXECUTABLE if layout.is_program(path) else PLAIN


def _staged(right: Tree) -> Tree:
    """The folder of a run while it sends."""
    return {".lock": "file", "set": "folder", **{f"set/{path}": kind for path, kind in right.items()}}
