"""The cache key: it covers every ingredient, and a miss is explained by what differs."""

import ast
import inspect
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgepack.base.paths import PACKAGE
from edgepack.engine import stage as stage_module
from edgepack.engine.artifact import Artifact
from edgepack.engine.stage import (
    Made,
    Scope,
    Stage,
    code_digest,
    ingredients,
    key_of,
    tool_version,
    why_changed,
)
from edgepack.run.pipeline import STAGES

STAGE = Stage("compile", 1, ("numpy",), ("errors.py", "zoo"), lambda _: Made())
DIGEST = st.text("0123456789abcdef", min_size=4, max_size=4)
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.lists(st.integers(), max_size=2)
SPEC = st.dictionaries(st.text(max_size=4), VALUES | st.dictionaries(st.text(max_size=3), VALUES, max_size=2))


def artifact(digest, name="model.onnx"):
    return Artifact(kind="onnx", name=name, sha256=digest, size=1, made_by="export")


def key(stage=STAGE, spec=None, inputs=None):
    return key_of(ingredients(stage, spec or {}, inputs or {}))


@given(SPEC, SPEC, st.dictionaries(st.text(max_size=4), DIGEST), st.dictionaries(st.text(max_size=4), DIGEST))
def test_the_key_is_that_of_the_spec_and_the_inputs(one, other, these, those):
    def made(spec, inputs):
        return ingredients(STAGE, spec, {role: artifact(digest) for role, digest in inputs.items()})

    a, b = made(one, these), made(other, those)
    assert key_of(made(one, these)) == key_of(a)
    assume((repr(one), these) != (repr(other), those))
    if a != b:
        assert key_of(a) != key_of(b)
        assert why_changed(a, b) not in {"first run", "its stored result was missing or damaged"}


@pytest.mark.parametrize(
    "changed",
    [
        replace(STAGE, name="package"),
        replace(STAGE, version=2),
        replace(STAGE, tools=("numpy", "onnx")),
        replace(STAGE, code=("errors.py",)),
    ],
)
def test_every_part_of_the_stage_counts(changed):
    assert key(changed) != key()


def test_versions_of_tools_and_of_python_count(monkeypatch):
    before = key()
    for tool in ("numpy", "python"):
        monkeypatch.setattr(
            stage_module, "tool_version", lambda name, t=tool: "99" if name == t else tool_version(name)
        )
        assert key() != before


def test_a_tool_that_is_not_there_is_absent():
    assert tool_version("no-such-distribution") == "absent"


def test_names_and_contents_of_source_files_count_and_bytecode_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(stage_module, "PACKAGE", tmp_path)
    folder = tmp_path / "examples"
    folder.mkdir()

    def digest():
        code_digest.cache_clear()
        return code_digest(("examples",))

    seen = []
    for name, text in (("a.py", "1"), ("a.py", "2"), ("b.c", ""), ("README.md", "read"), ("README.md", "me")):
        (folder / name).write_text(text)
        seen.append(digest())
    assert len(set(seen)) == len(seen)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/a.cpython-311.pyc").write_bytes(b"\0")
    assert digest() == seen[-1]
    code_digest.cache_clear()


def test_why_changed_in_words():
    a = ingredients(STAGE, {"tune": {"trials": 64}, "gone": 1, "text": "x" * 80}, {"onnx": artifact("aa")})
    b = ingredients(STAGE, {"tune": {"trials": 128}, "new": 1, "text": "y" * 80}, {"onnx": artifact("bb")})
    assert why_changed(None, a) == "first run"
    assert why_changed(a, a) == "its stored result was missing or damaged"
    assert why_changed(a, b) == "onnx changed, gone is gone, new is new and 2 more changes"
    assert why_changed(a, {**a, "spec": b["spec"]}).startswith("gone is gone, new is new, text changed and 1")
    spec = {**a["spec"], "tune": {"trials": 128}}
    assert why_changed(a, {**a, "spec": spec}) == "tune.trials 64 → 128"
    assert why_changed(a, {**a, "code": {**a["code"], "zoo": "other"}}) == "edgepack's zoo changed"
    assert why_changed(a, {**a, "tools": {**a["tools"], "numpy": "1"}}).startswith("numpy ")
    assert why_changed(a, {**a, "key_version": 2}) == "key_version 1 → 2"


def test_scopes_differ_by_target_and_variant():
    scopes = {
        str(Scope("r", "bench", target, variant)) for target in (None, "a", "b") for variant in (None, "a")
    }
    assert len(scopes) == 6


# What a stage imports and its result does not depend on: the nouns (their values are in the spec), errors, and
# what moves bytes. Everything else that a stage's function reaches has to be part of its key.
NOUNS = ("base/", "config/", "engine/", "errors.py", "run/fingerprint.py", "spec/")
MOVERS = {"deploy": ("bundle", "remote", "run"), "bench": ("bundle", "remote")}


def _file(module):
    path = PACKAGE.joinpath(*module.split(".")[1:])
    for candidate in (path / "__init__.py", path.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


def _imports(node):
    found = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            found |= {alias.name for alias in child.names}
        elif isinstance(child, ast.ImportFrom) and child.module:
            inner = {f"{child.module}.{alias.name}" for alias in child.names}
            found |= {name for name in inner if name.startswith("edgepack.") and _file(name)} or {
                child.module
            }
        found |= _imports(child)
    return {name for name in found if name.startswith("edgepack.")}


def _reached(stage):
    """The source files of edgepack that a stage's function imports, itself or through what it imports."""
    tree = ast.parse(Path(inspect.getfile(stage.run)).read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    at_top = {
        a.asname or a.name: n.module for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names
    }
    names, pending, modules = set(), [stage.run.__name__], set()
    while pending:
        name = pending.pop()
        if name in names:
            continue
        names.add(name)
        if name in functions:
            modules |= _imports(functions[name])
            pending += [n.id for n in ast.walk(functions[name]) if isinstance(n, ast.Name)]
        elif at_top.get(name, "").startswith("edgepack."):
            modules.add(at_top[name])
    files, queue = {Path(inspect.getfile(stage.run))}, list(modules)
    while queue:
        path = _file(queue.pop())
        if path is None or path in files or path.relative_to(PACKAGE).as_posix().startswith(NOUNS):
            continue
        files.add(path)
        queue += _imports(ast.parse(path.read_text()))
    return {path.relative_to(PACKAGE).as_posix() for path in files}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: f"{stage.name}{stage.run.__name__}")
def test_a_stage_declares_the_code_that_shapes_its_result(stage):
    for part in stage.code:
        assert (PACKAGE / part).exists()
    missing = {
        path
        for path in _reached(stage)
        if not any(path == part or path.startswith(f"{part}/") for part in stage.code)
        and path.split("/")[0] not in MOVERS.get(stage.name, ())
    }
    assert missing == set()
