"""The source files that user code consists of: a module's imports are followed, and nothing is run."""

import ast
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

_BY_NAME = {"import_module", "__import__"}  # with a constant name, the import is followed as any other
# A file that calls one of these may import any of its neighbours.
_BUILT_IN = {"exec", "eval"}
_ANY = {"run_path", "run_module", "spec_from_file_location", "iter_modules", "walk_packages"}


def modules_below(name: str, folder: Path, *, within: str = "") -> dict[str, Path]:
    """The modules in ``folder`` that importing ``name`` may import, with their files, sorted by name.

    All imports in a file count, also those inside functions. A file that imports by a name computed at run time counts
    with all files beside it. Modules from elsewhere are left out, and those outside of the package ``within``.
    """
    found: dict[str, Path] = {}
    pending = [name]
    while pending:
        parts = pending.pop().split(".")
        for depth in range(1, len(parts) + 1):
            module = ".".join(parts[:depth])
            inside = module not in found and f"{module}.".startswith(within and f"{within}.")
            path = _file_of(module, folder) if inside else None
            if path is not None:
                found[module] = path
                pending += _imports(module, path, folder)
    return dict(sorted(found.items()))


def meaning(path: Path) -> bytes:
    """What a file's digest is taken of: a Python file without comments and layout, any other file as it is."""
    data = path.read_bytes()
    if path.suffix != ".py":
        return data
    try:
        return ast.dump(ast.parse(data)).encode()
    except (SyntaxError, ValueError, RecursionError):
        return data  # reported when it is imported


def _file_of(module: str, folder: Path) -> Path | None:
    """The file of a module; None for a folder without ``__init__``, and for a module that is not in ``folder``."""
    place = folder.joinpath(*module.split("."))
    names = [place / "__init__.py", place.with_name(f"{place.name}.py")]
    names += [place.with_name(f"{place.name}{suffix}") for suffix in EXTENSION_SUFFIXES]
    return next((path for path in names if path.is_file()), None)


def _imports(module: str, path: Path, folder: Path) -> Iterator[str]:
    """The absolute names that a file imports."""
    if path.suffix != ".py":
        return
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = _absolute("." * node.level + (node.module or ""), package)
            for alias in node.names:
                yield from _inside(origin, folder) if alias.name == "*" else [_join(origin, alias.name)]
            yield origin
        elif isinstance(node, ast.Call):
            yield from _called(node, path, package, folder)


def _called(node: ast.Call, path: Path, package: str, folder: Path) -> Iterator[str]:
    """The names that a call may import."""
    function = node.func
    if isinstance(function, ast.Attribute):
        name = "" if function.attr in _BUILT_IN else function.attr  # model.eval() imports nothing
    else:
        name = function.id if isinstance(function, ast.Name) else ""
    first = node.args[0] if node.args else None
    if name in _BY_NAME and isinstance(first, ast.Constant) and isinstance(first.value, str):
        yield _absolute(first.value, package)
    elif name in _BY_NAME | _BUILT_IN | _ANY:
        beside = ".".join(path.parent.relative_to(folder).parts)
        yield from _inside(beside, folder)


def _inside(package: str, folder: Path) -> Iterator[str]:
    """The modules directly in a package or folder; the empty name is ``folder`` itself."""
    place = folder.joinpath(*package.split(".")) if package else folder
    for path in place.glob("*"):
        if path.suffix == ".py" or (path / "__init__.py").is_file():
            yield _join(package, path.stem)


def _absolute(name: str, package: str) -> str:
    """A name as written in ``package`` with its leading dots resolved."""
    levels = len(name) - len(name.lstrip("."))
    if not levels:
        return name
    outer = package.split(".")
    return _join(".".join(outer[: len(outer) - levels + 1]), name[levels:])


def _join(package: str, name: str) -> str:
    return f"{package}.{name}" if package and name else package or name
