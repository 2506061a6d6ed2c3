"""The public functions from Python: each can be called again, in any order, in one process."""

import inspect
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import edgepack
import edgepack.api

# In one process every ordered pair, a function after itself included: importing a module must not replace a function.
PAIRS = """
import itertools, json, sys
import edgepack
from edgepack.errors import EdgepackError
from pathlib import Path

calls = {
    "check": lambda f: f("recipe.yaml"),
    "run": lambda f: f("recipe.yaml"),
    "compress": lambda f: f("recipe.yaml"),
    "build": lambda f: f("recipe.yaml", out=Path("dist")),
    "compile": lambda f: f("tiny.onnx", "x86-64-v3", out=Path("tiny.so")),
    "report": lambda f: f(),
    "tune": lambda f: f("recipe.yaml"),  # refused: no budget
    "deploy": lambda f: f(Path("none.edgepack"), "virtual:host"),  # refused: no such file
    "bench": lambda f: f(Path("none.edgepack"), "virtual:host"),
    "profile": lambda f: f(Path("none.edgepack"), "virtual:host"),
    "rollback": lambda f: f("tiny", "nobody"),  # refused: no such device
}
assert set(calls) == set(edgepack.__all__) - {"__version__"}, set(calls) ^ set(edgepack.__all__)
calls["run"](edgepack.run)  # fills the store and makes a report
refused = set()
for pair in itertools.product(calls, repeat=2):
    for name in pair:
        try:
            calls[name](getattr(edgepack, name))
        except EdgepackError:
            refused.add(name)
print(json.dumps(sorted(refused)))
"""


def test_no_module_has_the_name_of_a_public_function():
    modules = {module.name for module in pkgutil.iter_modules(edgepack.__path__)}
    functions = set(edgepack.__all__) | {name for name in vars(edgepack.api) if not name.startswith("_")}
    assert not modules & functions - {"errors"}


def test_every_public_function_works_twice_after_every_other(module_cli, tiny_onnx):
    shutil.copy(tiny_onnx, module_cli.folder / "tiny.onnx")
    module_cli.write(
        "recipe.yaml",
        "edgepack: 1\nname: tiny\nmodel: {onnx: tiny.onnx}\ntargets: [{target: x86-64-v3}]\n",
    )
    done = subprocess.run([sys.executable, "-c", PAIRS], check=False, **module_cli.options())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == '["bench", "deploy", "profile", "rollback", "tune"]'


def test_the_examples_of_the_page_run(module_cli, tiny_onnx):
    shutil.copy(tiny_onnx, module_cli.folder / "tiny.onnx")
    page = (Path(edgepack.__file__).parents[1] / "docs/api.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(examples) > 5
    for name in edgepack.__all__[1:]:
        assert f"`edgepack.{name}(" in page, name
    done = subprocess.run([sys.executable, "-c", "\n".join(examples)], check=False, **module_cli.options())
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_files_may_be_text_or_paths():
    """Every argument of the API that is a path takes both."""
    for name, function in vars(edgepack.api).items():
        if (
            inspect.isfunction(function)
            and not name.startswith("_")
            and function.__module__ == "edgepack.api"
        ):
            for parameter in inspect.signature(function).parameters.values():
                assert "Path" not in str(parameter.annotation) or "Path | str" in str(parameter.annotation), (
                    name,
                    parameter,
                )
