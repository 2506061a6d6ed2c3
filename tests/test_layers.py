"""Imports go down only, and what must start fast imports nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import edgepack

PACKAGE = Path(edgepack.__file__).parent

# From the top; a module may import from its own row and from rows below it.
LAYERS = (
    ("__main__",),
    ("cli",),
    ("__init__", "api"),
    ("pipeline",),
    ("stages",),
    ("runner", "runs", "fleet", "doctor"),
    ("boards", "report"),
    ("plan", "bench"),
    ("tune",),
    ("remote",),
    ("bundle",),
    ("agent",),
    ("lower",),
    ("schedules",),
    ("init", "check"),
    ("schema", "fingerprint", "zoo"),
    # What a recipe is and what it asks for: steps and training have their specs beside the code that does them.
    ("recipe", "compress", "export", "data"),
    ("target", "device", "events", "stage", "onnxfile"),
    ("outcome",),
    ("host", "reference", "yaml", "jsonfile"),
    ("document", "explain", "store"),
    ("artifact", "crash"),
    ("spec", "paths", "interrupt"),
    ("errors",),
)
RANK = {name: rank for rank, row in enumerate(LAYERS) for name in row}


def _top(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def _imports(path: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            if node.module == "edgepack":
                found += [(node.lineno, f"edgepack.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, node.module))
    return [(line, name) for line, name in found if name.split(".")[0] == "edgepack"]


def test_every_module_has_a_layer():
    for path in PACKAGE.rglob("*.py"):
        relative = path.relative_to(PACKAGE)
        if relative.parts[0] == "_data" or "examples" in relative.parts:
            continue
        assert relative.parts[0].removesuffix(".py") in RANK, f"{relative} stands in no layer"


def test_imports_go_down_only():
    upward = []
    for path in PACKAGE.rglob("*.py"):
        relative = path.relative_to(PACKAGE)
        own = relative.parts[0].removesuffix(".py")
        if own not in RANK:
            continue
        for line, name in _imports(path):
            top = _top(name)
            if top == "__version__":
                continue
            if RANK.get(top, -1) < RANK[own]:
                upward.append(f"{relative}:{line} imports {name}")
    assert not upward, "\n".join(upward)


@pytest.mark.parametrize(
    "module", ["edgepack.cli", "edgepack.config.check", "edgepack.config.plan", "edgepack.run.pipeline"]
)
def test_starting_imports_nothing_heavy(module):
    code = f"import sys, {module}; print(sorted({{'torch', 'tvm', 'onnx', 'onnxruntime', 'numpy', 'sklearn', 'paramiko'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
