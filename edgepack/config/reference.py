"""Look up ``module:callable`` without running any code: only the source file is read."""

import ast
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from edgepack.base.text import did_you_mean, near_miss, nearest


def reference_problem(reference: str, base: Path, *, arguments: int = 0) -> str | None:
    """Why ``reference`` cannot be called with this many positional arguments; None if there is no problem.

    Modules are looked for next to the recipe (``base``), then on ``sys.path``. They are not imported, as that would
    run user code and import torch; a name that may be defined only at run time is accepted.
    """
    module, name = reference.split(":")
    source = _source(module, base)
    if isinstance(source, str):
        return source
    if source is None:
        return None
    try:
        tree = ast.parse(source.read_bytes(), filename=str(source))
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        return f"{source} is not valid Python{line}: {error.args[0]}"
    names, dynamic = _names(tree)
    if name in names:
        return _signature_problem(names[name], reference, arguments)
    return None if dynamic else f"`{module}` has no `{name}`{near_miss(name, names, say='it has:')}"


def _source(module: str, base: Path) -> Path | str | None:
    """The module's source file; a message if it is missing; None if it exists but has no Python source."""
    search: list[str] | None = [str(base), *sys.path]
    parts = module.split(".")
    if parts[0] in sys.stdlib_module_names and (
        (base / f"{parts[0]}.py").exists() or (base / parts[0]).is_dir()
    ):
        return f"`{parts[0]}` next to the recipe has the name of a standard library module; rename it"
    spec: ModuleSpec | None = None
    for depth, part in enumerate(parts):
        if search is None:
            return f"no module `{module}`: `{'.'.join(parts[:depth])}` is not a package"
        outer, search_here = ".".join(parts[:depth]), search
        spec = PathFinder.find_spec(".".join(parts[: depth + 1]), search_here)
        if spec is None:
            return f"no module `{module}`{_near_module(part, outer, search_here, base)}"
        search = (
            list(spec.submodule_search_locations) if spec.submodule_search_locations is not None else None
        )
    origin = Path(spec.origin) if spec and spec.origin else None
    return origin if origin is not None and origin.suffix == ".py" else None


def _near_module(part: str, outer: str, search: list[str], base: Path) -> str:
    folders = [Path(entry) for entry in search] if outer else [base]
    names = {p.stem for folder in folders if folder.is_dir() for p in folder.glob("*.py")} - {"__init__"}
    where = f" in `{outer}`" if outer else f" next to the recipe ({base}) or on Python's path"
    return where + did_you_mean(nearest(part, names))


def _names(tree: ast.Module) -> tuple[dict[str, ast.stmt], bool]:
    """The names that a module defines at its top level, and whether there may be more at run time."""
    names: dict[str, ast.stmt] = {}
    dynamic = False
    pending = list(tree.body)
    while pending:
        node = pending.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names[node.name] = node
            dynamic = dynamic or node.name == "__getattr__"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                dynamic = dynamic or alias.name == "*"
                names[(alias.asname or alias.name).split(".")[0]] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {t.id: node for target in targets for t in ast.walk(target) if isinstance(t, ast.Name)}
        else:  # if, try, with and the like: their contents, at any depth
            pending += [
                child for child in ast.walk(node) if isinstance(child, ast.stmt) and child is not node
            ]
    return names, dynamic


def _signature_problem(node: ast.stmt, reference: str, arguments: int) -> str | None:
    if not isinstance(node, ast.FunctionDef):
        return None
    spec = node.args
    positional = [a.arg for a in (*spec.posonlyargs, *spec.args)]
    required = positional[: len(positional) - len(spec.defaults)]
    keyword = [a.arg for a, d in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if d is None]
    unfilled = [*required[arguments:], *keyword]
    if unfilled and not node.decorator_list:
        given = f"only {arguments}" if arguments else "no"
        plural = "argument" if arguments == 1 else "arguments"
        return f"`{reference}` is called with {given} {plural}, but needs {', '.join(unfilled)}"
    return None
