"""What pages, docstrings and comments point at is there."""

import importlib
import re
from pathlib import Path

import pytest

import edgepack

ROOT = Path(edgepack.__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile", "Dockerfile")),
    *sorted((ROOT / "docs").glob("*.md")),
]
SOURCES = [path for folder in ("edgepack", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]

FILE = re.compile(r"(?<![\w/.-])((?:edgepack|benchmarks|tests|docs|targets|recipes|schemas)/[\w./-]+\.\w+)\b")
DOTTED = re.compile(r"(?<![\w/.\[])(edgepack(?:\.[A-Za-z_]\w*)+)\b(?![/\[-])")
QUOTED = re.compile(r"`(edgepack(?:\.[A-Za-z_]\w*)+)`")
IMPORT = re.compile(r"^from (edgepack[\w.]*) import ([\w, ]+)$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([\w-]+))?\)")

# Files that a guide has its reader write, and in whose package.
MADE = ("edgepack/compression/zero_weights.py", "targets/NAME.yaml")
# Names of files that users have, and of an entry-point group.
NOT_CODE = re.compile(r"edgepack\.(methods|yaml|pth|so|zip|h|io|lock|json)\b")


def anchors(page):
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def resolves(dotted):
    parts = dotted.split(".")
    for size in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:size]))
        except ModuleNotFoundError:
            continue
        for part in parts[size:]:
            if not hasattr(found, part):
                return part in getattr(found, "__annotations__", {})
            found = getattr(found, part)
        return True
    return False


def absent(text, names):
    """The files and names of a text that are not there."""
    imports = [
        f"{module}.{name.strip()}"
        for module, several in IMPORT.findall(text)
        for name in re.sub(r" as \w+", "", several).split(",")
    ]
    return [
        *(file for file in FILE.findall(text) if not (ROOT / file).exists() and file not in MADE),
        *(
            name
            for name in (*names.findall(text), *imports)
            if not NOT_CODE.match(name) and not resolves(name)
        ),
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_pages_links_files_and_names_are_there(page):
    text = page.read_text()
    wrong = absent(text, DOTTED)
    for target, anchor in LINK.findall(text):
        other = page if not target else (page.parent / target).resolve()
        if not other.exists() or (anchor and other.suffix == ".md" and anchor not in anchors(other)):
            wrong.append(f"{target}#{anchor}")
    assert not wrong


def test_files_and_names_in_docstrings_and_comments_are_there():
    wrong = {path.relative_to(ROOT): found for path in SOURCES if (found := absent(path.read_text(), QUOTED))}
    assert not wrong
