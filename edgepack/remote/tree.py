"""Folders on a board: what is in them, as the agent tells it, and removal of exactly what is named."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from edgepack.bundle.layout import MANIFEST
from edgepack.bundle.manifest import PLAIN, FileEntry, Manifest
from edgepack.remote.store import Line

Tree = Mapping[str, str]
"""What is in a folder, by relative path: ``folder``; ``644``, ``755`` or ``file``, a regular file of this or another mode;
``other``, a link, a FIFO, or a path that edgepack would not make."""

FILES = ("644", "755", "file")
EXTRA = "is not part of the release"


@dataclass(frozen=True)
class Described:
    """A folder as the agent tells it.

    Attributes:
        tree: What is in it.
        sums: The sha256 of its regular files, by path, if it was asked for.
        manifest: The manifest in it; empty if it has none.
    """

    tree: Tree
    sums: Mapping[str, str]
    manifest: bytes

    def sound(self, manifest: Manifest) -> frozenset[str]:
        """The files of a release whose sha256 is right."""
        right = {entry.path: entry.sha256 for entry in manifest.files} | {MANIFEST: manifest.digest}
        return frozenset(path for path, sha in right.items() if self.sums.get(path) == sha)


def described(lines: Iterable[Line]) -> dict[str, Described]:
    """The folders that an answer of the agent's ``store`` describes, by name."""
    trees: dict[str, dict[str, str]] = {}
    sums: dict[str, dict[str, str]] = {}
    manifests: dict[str, bytes] = {}
    for line in lines:
        if "manifest" in line:
            manifests[line["manifest"]] = line["text"].encode()
        elif "in" in line:
            name, path = line["in"], line["path"]
            tree = trees.setdefault(name, {})
            if path:
                tree[path] = _kind(line) if path.isprintable() else "other"
            if "sha256" in line:
                sums.setdefault(name, {})[path] = line["sha256"]
    return {
        name: Described(dict(sorted(tree.items())), sums.get(name, {}), manifests.get(name, b""))
        for name, tree in trees.items()
    }


def _kind(line: Line) -> str:
    match line["kind"]:
        case "folder":
            return "folder"
        case "file":
            mode = f"{line['mode']:o}"
            return mode if mode in FILES else "file"
    return "other"


def listed(manifest: bytes) -> frozenset[str]:
    """The paths that a manifest of any version lists, and its own; none if it is not a manifest."""
    try:
        files = [FileEntry.model_validate(entry) for entry in json.loads(manifest)["files"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return frozenset()
    return frozenset([MANIFEST, *(entry.path for entry in files)])


def folders_of(files: Iterable[str]) -> list[str]:
    """The folders that these files are in, parents first."""
    found: set[str] = set()
    for path in files:
        found.update(str(parent) for parent in PurePosixPath(path).parents)
    return sorted(found - {"."})


def expected(manifest: Manifest) -> Tree:
    """What is in the folder of a release."""
    return with_folders(
        {entry.path: f"{entry.mode:o}" for entry in manifest.files} | {MANIFEST: f"{PLAIN:o}"}
    )


def with_folders(files: Tree) -> Tree:
    """These files and the folders that they are in."""
    return {**dict.fromkeys(folders_of(files), "folder"), **files}


def differences(tree: Tree, right: Tree, sound: Collection[str] | None = None) -> dict[str, str]:
    """How a folder differs from what should be in it, in files, kinds and modes, by path.

    With ``sound``, the paths of files whose sha256 is right, contents are compared, too.
    """
    found = {path: EXTRA for path in tree if path not in right}
    for path, kind in right.items():
        there = tree.get(path)
        if there is None:
            found[path] = "is missing"
        elif there != kind:
            found[path] = "has another mode" if there in FILES and kind in FILES else "is not a file"
        elif sound is not None and kind != "folder" and path not in sound:
            found[path] = "has other contents"
    return found


def removal(name: str, tree: Tree, files: Collection[str]) -> list[str]:
    """Orders to remove these files of a folder, then the folders that they are in and the folder itself, if empty.

    A link, a FIFO or a folder in the place of a file is not removed, nor is what lies behind a link.
    """
    there = [path for path in files if tree.get(path) in FILES]
    folders = [path for path in folders_of(files) if tree.get(path) == "folder"]
    return [
        *(f"file {name}/{path}" for path in there if path != MANIFEST),
        *(f"folder {name}/{path}" for path in reversed(folders)),
        # Without it, nobody could tell any more whose files and folders the others are.
        *(f"file {name}/{path}" for path in there if path == MANIFEST),
        f"folder {name}",
    ]
