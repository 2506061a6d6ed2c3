"""Folders on a board: what is in them, read without opening anything, and removal of exactly what is named."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from edgepack.bundle.archive import MAX_MANIFEST
from edgepack.bundle.layout import MANIFEST
from edgepack.bundle.manifest import PLAIN, FileEntry, Manifest

Tree = Mapping[str, str]
"""What is in a folder, by relative path: ``folder``; ``644``, ``755`` or ``file``, a regular file of this or another mode;
``other``, a link, a FIFO, or a path that edgepack would not make."""

FILES = ("644", "755", "file")
EXTRA = "is not part of the release"

# Shell functions that describe files. The first word of every line that they write is a random mark, `$mark`, so that
# neither a file's name nor its contents can be taken for one. Only regular files are opened: a FIFO would block.
# `trees ./A ./B` describes folders, `manifest FOLDER A` prints the manifest in FOLDER as that of A.
DESCRIBE = """\
LC_ALL=C
export LC_ALL
say() { printf '%s\\n' "$mark $*"; }
kind() {
  if [ -L "$1" ]; then echo link
  elif [ -d "$1" ]; then echo folder
  elif [ -f "$1" ]; then echo file
  elif [ -e "$1" ]; then echo other
  else echo none
  fi
}
trees() {
  say folder
  find "$@" -type d
  say 644
  find "$@" -type f -perm 644
  say 755
  find "$@" -type f -perm 755
  say file
  find "$@" -type f ! -perm 644 ! -perm 755
  say other
  find "$@" ! -type d ! -type f
}
manifest() {
  [ "$(kind "$1/MANIFEST")" = file ] || return 0
  say "manifest $2"
  head -c LIMIT "$1/MANIFEST"
  echo
}
""".replace("MANIFEST", MANIFEST).replace("LIMIT", str(MAX_MANIFEST + 1))

# Reads orders from stdin, as `removal` writes them. Each names what it removes.
_REMOVE = """\
cd "$1" || exit
while read -r order path aside; do
  case $order in
    aside)
      [ "$(readlink current)" != "$path" ] && [ "$(readlink previous)" != "$path" ] && mv -T -- "$path" "$aside";;
    file) rm -f -- "./$path";;
    folder) rmdir -- "./$path" 2>/dev/null;;
  esac
done
exit 0
"""


def sections(answer: bytes, mark: str) -> Iterator[tuple[list[str], bytes]]:
    """The words after each mark, and the bytes up to the next one. What comes before the first mark is dropped."""
    pieces = re.split(rb"^" + mark.encode() + rb" (\S.*)\n", answer, flags=re.MULTILINE)
    for words, body in zip(pieces[1::2], pieces[2::2], strict=True):
        yield words.decode(errors="replace").split(), body


@dataclass(frozen=True)
class Described:
    """A folder as ``tree`` and ``manifest`` describe it; ``manifest`` is empty if it has none."""

    tree: Tree
    manifest: bytes


def described(found: Iterable[tuple[list[str], bytes]]) -> dict[str, Described]:
    """The folders that ``trees`` and ``manifest`` describe in these sections, by name."""
    trees: dict[str, dict[str, str]] = {}
    manifests: dict[str, bytes] = {}
    for words, body in found:
        match words:
            case ["folder" | "644" | "755" | "file" | "other" as kind]:
                for name, path in _paths(body):
                    tree = trees.setdefault(name, {})
                    if path:
                        tree[path] = kind if path.isprintable() else "other"
            case ["manifest", name]:
                manifests[name] = body[:-1]
    return {name: Described(tree, manifests.get(name, b"")) for name, tree in trees.items()}


def _paths(body: bytes) -> Iterator[tuple[str, str]]:
    """Lines such as ./NAME/PATH as pairs; without a path for the folder itself."""
    entries: list[str] = []
    for line in body.decode(errors="backslashreplace").split("\n")[:-1]:
        if line.startswith("./") or not entries:
            entries.append(line)
        else:
            entries[-1] += f"\n{line}"  # the rest of a name with a newline in it
    for entry in entries:
        name, _, path = entry.removeprefix("./").partition("/")
        yield name, path


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


def remove(run: Callable[..., str], base: str, orders: Sequence[str]) -> None:
    """Carry out orders that ``removal`` writes, by a function that runs a script on the board."""
    if orders:
        run(_REMOVE, base, stdin="".join(f"{order}\n" for order in orders))


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
