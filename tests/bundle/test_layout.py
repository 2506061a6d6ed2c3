"""The example programs in a bundle use the paths of its layout."""

import ast
import re

import pytest

from edgepack.base.paths import PACKAGE
from edgepack.bundle import layout
from edgepack.bundle.examples import example_files
from edgepack.lower.emit.vm import EXECUTOR
from edgepack.lower.phases import EXECUTORS

BENCHMARKS = PACKAGE.parent / "benchmarks"
SPELT = re.compile(r"model/model\.so|bin/edgepack-agent|^(bin|lib|sample|examples)/")

MODEL = layout.model(EXECUTOR.file)


def texts(path):
    """The string literals of a source file, without docstrings."""
    tree = ast.parse(path.read_text())
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in prose)
    return [node.value for node in constants if isinstance(node.value, str)]


def test_one_module_knows_the_paths():
    static = PACKAGE / "bundle" / "static.py"  # has another layout
    files = {*PACKAGE.rglob("*.py"), *BENCHMARKS.rglob("*.py")} - {static}
    found = {path for path in files if any(SPELT.search(text) for text in texts(path))}
    assert found <= {PACKAGE / "bundle" / "layout.py"}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_the_examples_use_the_layouts_paths(executor):
    python, c, readme = (
        example_files(executor)[name].read_text() for name in ("infer.py", "infer.c", "README.md")
    )
    folder, name = MODEL.split("/")
    assert f'BUNDLE / "{folder}" / "{name}"' in python
    assert f'"../{MODEL}' in c
    assert f'"../{layout.sample_input(0)}"' in c
    assert f"`../{MODEL}`" in readme


def test_programs_alone_are_executable():
    assert layout.is_program(layout.AGENT)
    others = (
        MODEL,
        layout.library("x"),
        layout.example("x"),
        layout.sample_output(3),
        layout.MANIFEST,
    )
    assert not any(map(layout.is_program, others))
