"""What is on a board for one release's name: links, folders and their contents, read in one round trip.

Only what edgepack made is ever changed or removed. A folder's name has its release's digest, the manifest in it has
that sha256, and the manifest lists its files: those are edgepack's. Everything else is foreign, whatever its name.
"""

import hashlib
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from edgepack.bundle.layout import MANIFEST
from edgepack.bundle.manifest import Manifest
from edgepack.errors import DeployError, InputError
from edgepack.remote.session import Session
from edgepack.remote.store import Line, ask
from edgepack.remote.tree import (
    EXTRA,
    FILES,
    Described,
    Tree,
    described,
    differences,
    expected,
    folders_of,
    listed,
)

_RELEASE = re.compile(r"([0-9a-f]{64})(\.[1-9][0-9]*)?")
_UNFINISHED = re.compile(r"\.(?:incoming|gone)-([0-9a-f]{64})(\.[1-9][0-9]*)?")
_SMOKE = re.compile(r"\.smoke-[0-9a-f]{8}")
_LINK = re.compile(r"\.link-[0-9a-f]{8}[cp]")
_OUTPUT = re.compile(r"output-[0-9]+\.npy")
_PART = re.compile(r"\.(.+)\.[0-9a-f]{8}\.part")
_HISTORY = re.compile(r"(\S+) (?:install|rollback) ([0-9a-f]{64}) (\S+) by .*")
_KINDS = {"link": "a link", "folder": "a folder", "file": "a file", "other": "a FIFO, socket or device"}


@dataclass(frozen=True)
class Switch:
    """A line of the history: a release became current. ``when`` is UTC, ISO 8601, by the installing machine's clock."""

    when: str
    digest: str
    version: str


@dataclass(frozen=True)
class BoardFolder:
    """A folder in ``releases/`` with a name that edgepack gives.

    Attributes:
        name: Its name.
        tree: What is in it.
        manifest: The manifest in it; None if none has the digest of the folder's name, or it cannot be read.
        listed: The files that this manifest lists, and itself.
        refusal: Why the manifest cannot be read, although it is undamaged: a newer edgepack wrote it.
    """

    name: str
    tree: Tree
    manifest: Manifest | None
    listed: frozenset[str]
    refusal: InputError | None = None

    @property
    def digest(self) -> str:
        """The release digest in its name; empty if it has none."""
        match = _RELEASE.fullmatch(self.name) or _UNFINISHED.fullmatch(self.name)
        return match[1] if match else ""

    @property
    def finished(self) -> bool:
        """Whether it holds a release, which may be damaged."""
        return _RELEASE.fullmatch(self.name) is not None and bool(self.listed)

    @cached_property
    def own(self) -> frozenset[str]:
        """The files in it that edgepack made, partly transferred ones included."""
        return frozenset(path for path, kind in self.tree.items() if kind in FILES and self._made(path))

    @cached_property
    def foreign(self) -> tuple[str, ...]:
        """What is in it that edgepack did not make."""
        folders = {path for path in folders_of(self.listed) if self.tree.get(path) == "folder"}
        return tuple(path for path in self.tree if path not in self.own | folders)

    @cached_property
    def faults(self) -> int:
        """How many of its files are missing, or have another kind or mode; contents are not compared."""
        found = {} if self.manifest is None else differences(self.tree, expected(self.manifest))
        return sum(fault != EXTRA for fault in found.values())

    def _made(self, path: str) -> bool:
        folder, name = posixpath.split(path)
        part = _PART.fullmatch(name)
        if part is not None:
            return posixpath.join(folder, part[1]) in self.listed | {MANIFEST}
        return path in self.listed or bool(_SMOKE.fullmatch(self.name) and _OUTPUT.fullmatch(path))


@dataclass(frozen=True)
class Survey:
    """The state of a board for one release's name.

    Attributes:
        folders: The folders with names that edgepack gives.
        names: The names in ``releases/`` that are taken, whatever they are.
        current: The name of the folder that ``current`` points to.
        linked: The name of the folder that ``previous`` points to.
        history: Switches, the oldest first.
        temporaries: Links of a switch that was cut off.
        obstacles: What is in the place of edgepack's own files, and is not followed, waited for or overwritten.
        sound: Files of the wanted release, which is current, whose sha256 is right.
    """

    folders: Mapping[str, BoardFolder]
    names: frozenset[str]
    current: str | None
    linked: str | None
    history: tuple[Switch, ...]
    temporaries: tuple[str, ...]
    obstacles: tuple[str, ...]
    sound: frozenset[str]

    @property
    def releases(self) -> tuple[BoardFolder, ...]:
        """The folders that hold releases, the one that became current last at the end."""
        order = {switch.digest: index for index, switch in enumerate(self.history)}
        finished = [folder for folder in self.folders.values() if folder.finished]
        return tuple(sorted(finished, key=lambda folder: order.get(folder.digest, -1)))

    @property
    def running(self) -> BoardFolder | None:
        """The current release."""
        return self.folders.get(self.current or "")

    @property
    def previous(self) -> BoardFolder | None:
        """The release that a rollback restores.

        A power cut between the two links of a switch leaves ``previous`` equal to ``current``. It is then the release
        that became current before, as the history says.
        """
        now = self.current and self.current[:64]
        linked = self.folders.get(self.linked or "")
        if linked is not None and linked.finished and linked.digest != now:
            return linked
        for switch in reversed(self.history):
            if switch.digest != now:
                found = [folder for folder in self.releases if folder.digest == switch.digest]
                if found:
                    return min(found, key=lambda folder: folder.faults)
        return None

    def damage(self, wanted: Manifest) -> dict[str, str] | None:
        """How the current release differs from ``wanted``, by path; None if it is another release."""
        if self.current is None or self.current[:64] != wanted.digest:
            return None
        return differences(self.running.tree if self.running else {}, expected(wanted), self.sound)

    def free_name(self, stem: str) -> str:
        """``stem``, or ``stem.1``, ``stem.2`` and so on if that name is taken."""
        number = 0
        while (name := f"{stem}.{number}" if number else stem) in self.names:
            number += 1
        return name


def survey(session: Session, root: str, wanted: Manifest | None = None) -> Survey:
    """Read the board's state in one round trip; nothing is changed.

    Raises:
        DeployError: The board cannot tell it.
        UnreachableError: The connection was lost.
    """
    return _collect(ask(session, "survey", root, wanted.digest if wanted else ""), root, wanted)


def refuse_obstacles(session: Session, root: str, found: Survey) -> None:
    """Raise the error for what is in the place of edgepack's files.

    Raises:
        DeployError: With all of them.
    """
    if found.obstacles:
        raise DeployError(
            f"{root} on the board has something that edgepack did not make in the place of its own files",
            where=session.name,
            why="".join(f"\n    - {obstacle}" for obstacle in found.obstacles),
            state="nothing was changed",
            next="move it away, or set another work_dir in devices.yaml",
        )


def refuse_other_kind(session: Session, folder: str, found: Sequence[Line]) -> None:
    """Raise the error for a link, a file or the like in the place of a folder; the first line says what it is.

    Raises:
        DeployError: It is there, and is not a folder.
    """
    kind = found[0]["kind"]
    if kind not in {"folder", "none"}:
        raise DeployError(
            f"{folder} on the board is {_KINDS[kind]}, not a folder",
            where=session.name,
            why="edgepack did not make it, and does not write through it",
            state="nothing was sent to the board",
            next="move it away, or set another work_dir in devices.yaml",
        )


def _collect(found: list[Line], root: str, wanted: Manifest | None) -> Survey:
    kinds = {line["name"]: line["kind"] for line in found if "name" in line}
    links = {line["name"]: line["target"] for line in found if "name" in line and line["kind"] == "link"}
    current = _release_of(links.get("current", ""))
    folders = described(found)
    return Survey(
        folders={name: _folder(name, it) for name, it in folders.items() if _has_own_name(name)},
        names=frozenset(line["entry"] for line in found if "entry" in line),
        current=current,
        linked=_release_of(links.get("previous", "")),
        history=tuple(_switches(next((line["text"] for line in found if "history" in line), ""))),
        temporaries=tuple(
            line["temporary"]
            for line in found
            if "temporary" in line and _LINK.fullmatch(line["temporary"]) and _release_of(line["target"])
        ),
        obstacles=tuple(_obstacles(root, kinds, links)),
        sound=folders[current].sound(wanted) if wanted and current in folders else frozenset(),
    )


def _release_of(target: str) -> str | None:
    """The name of the release's folder that a link points to; None if edgepack makes no such link."""
    name = target.removeprefix("releases/")
    return name if name != target and _RELEASE.fullmatch(name) else None


def _obstacles(root: str, kinds: Mapping[str, str], links: Mapping[str, str]) -> Iterator[str]:
    right = {"root": "folder", "releases": "folder", "history": "file", ".lock": "file"}
    right |= {"current": "link", "previous": "link"}
    for name, kind in kinds.items():
        if kind not in {"none", right[name]}:
            yield f"{root if name == 'root' else name} is {_KINDS[kind]}, not {_KINDS[right[name]]}"
    for name, target in links.items():
        if _release_of(target) is None:
            yield f"{name} points to {target!r}, which is not a release that edgepack installed"


def _has_own_name(name: str) -> bool:
    return any(pattern.fullmatch(name) for pattern in (_RELEASE, _UNFINISHED, _SMOKE))


def _folder(name: str, it: Described) -> BoardFolder:
    match = _RELEASE.fullmatch(name) or _UNFINISHED.fullmatch(name)
    if match is None or hashlib.sha256(it.manifest).hexdigest() != match[1]:
        return BoardFolder(name, it.tree, None, frozenset())
    try:
        return BoardFolder(name, it.tree, Manifest.parse(it.manifest, where=name), listed(it.manifest))
    except InputError as error:
        return BoardFolder(name, it.tree, None, listed(it.manifest), error)


def _switches(text: str) -> Iterator[Switch]:
    """The lines of a history; each digest is where it became current last. Incomplete lines are ignored."""
    found: dict[str, Switch] = {}
    for match in map(_HISTORY.fullmatch, text.splitlines()):
        if match:
            found.pop(match[2], None)
            found[match[2]] = Switch(match[1], match[2], match[3])
    yield from found.values()
