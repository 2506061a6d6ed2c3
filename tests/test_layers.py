"""The layers of docs/architecture.md: imports go down only, without cycles, and nothing heavy is imported early."""

import ast
import graphlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import edgepack

PACKAGE = Path(edgepack.__file__).parent
PAGE = PACKAGE.parent / "docs" / "architecture.md"
TOP = ("__main__", "__init__", "api", "diagnosis", "errors")  # the modules that stand beside the rooms
HEAVY = ("torch", "tvm", "onnx", "onnxruntime", "numpy", "sklearn", "paramiko")


def drawn() -> dict[str, int]:
    """The rows of the page's table of rooms: each name with its row, 0 at the top."""
    table = re.search(r"<!-- rooms -->\n(.*?)<!-- end -->", PAGE.read_text(), re.DOTALL)[1]
    rows = [re.findall(r"`(\w+)(?:/|\.py)`", line.split("|")[1]) for line in table.splitlines()]
    rows = [row for row in rows if row]
    return {name: number for number, row in enumerate(rows) for name in row}


def modules() -> dict[str, Path]:
    """Every module by its dotted name below the package; the package itself is ``__init__``."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        relative = path.relative_to(PACKAGE)
        if relative.parts[0] == "_data" or (
            relative.parts[:2] == ("bundle", "examples") and path.stem != "__init__"
        ):
            continue  # not imported: data, and programs that travel in bundles
        parts = [part for part in relative.with_suffix("").parts if part != "__init__"]
        found[".".join(parts) or "__init__"] = path
    return found


MODULES = modules()


def imported(path: Path) -> set[str]:
    """The modules of edgepack that a file imports, also inside functions and for types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "edgepack":
                whole = rest or "__init__"
                found.add(whole if whole in MODULES else whole.rpartition(".")[0] or "__init__")
    return found


IMPORTS = {name: imported(path) - {name} for name, path in MODULES.items()}


def room(module: str) -> str:
    return module.partition(".")[0]


def expected(folder: str) -> list[str]:
    """What the files of a folder import from outside it: rooms, and parts of their own room."""
    inside = {name for name in MODULES if name == folder or name.startswith(f"{folder}.")}
    return sorted(
        {
            name if room(name) == room(folder) else room(name)
            for module in inside
            for name in IMPORTS[module] - inside
        }
    )


FOLDERS = sorted(name for name, path in MODULES.items() if path.name == "__init__.py" and name != "__init__")


def test_the_page_draws_every_room():
    rooms = {room(name) for name in MODULES}
    assert set(drawn()) == rooms
    assert {name for name in rooms if not (PACKAGE / name).is_dir()} == set(TOP)


def test_imports_go_down_only():
    rows = drawn()
    wrong = [
        f"{importer} imports {name}"
        for importer, names in IMPORTS.items()
        for name in names
        if room(name) != room(importer) and rows[room(name)] <= rows[room(importer)]
    ]
    assert not wrong, "\n".join(wrong)


def test_modules_import_each_other_in_no_circle():
    # A module of a folder is there before the folder's own __init__ is through; what that takes from its modules is no
    # circle, and what they take from it is.
    try:
        graphlib.TopologicalSorter(IMPORTS).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_says_what_lives_there_and_what_it_imports(folder):
    paragraphs = (ast.get_docstring(ast.parse(MODULES[folder].read_text())) or "").split("\n\n")
    assert len(paragraphs) > 1, f"{folder}/__init__.py: say what lives there, and what it imports"
    assert " ".join(paragraphs[-1].split()) == f"Imports: {', '.join(expected(folder)) or 'nothing'}."


def test_a_noun_names_one_thing():
    places = {}
    for path in [*MODULES.values(), *(PACKAGE.parent / "benchmarks").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path))
    assert not {name: where for name, where in places.items() if len(where) > 1}


def test_a_file_has_a_size_that_one_can_read():
    longer = {
        name: count for name, path in MODULES.items() if (count := len(path.read_text().splitlines())) > 420
    }
    assert not longer


@pytest.mark.parametrize("module", ["edgepack.cli", "edgepack.config.plan", "edgepack.pipeline.pipeline"])
def test_starting_imports_nothing_heavy(module):
    code = f"import sys, {module}; print(sorted({set(HEAVY)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_test_files_have_names_of_their_own():
    """pytest imports them by these names, as the folders of tests are no packages."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert {name for name, count in names.items() if count > 1} == set()
