"""The cache key: it covers every ingredient, and a miss is explained by what differs."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgepack.base.versions import tool_version
from edgepack.engine import keys as keys_module
from edgepack.engine.artifact import Artifact
from edgepack.engine.events import Scope
from edgepack.engine.keys import code_digest, ingredients_of, key_of, why_changed
from edgepack.engine.stage import Ingredients, Request, Stage, StageResult
from edgepack.errors import EdgepackError
from edgepack.spec import Spec

DIGEST = st.text("0123456789abcdef", min_size=4, max_size=4)
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.lists(st.integers(), max_size=2)
SPEC = st.dictionaries(st.text(max_size=4), VALUES | st.dictionaries(st.text(max_size=3), VALUES, max_size=2))
SHAPING = Ingredients(("numpy",), ("errors.py", "zoo"), {"cuda_compiler": "13.0"})


class Asked(Spec):
    values: dict[str, Any]


class Compile(Stage):
    name = "compile"
    figures = Asked

    def __init__(self, shaping=SHAPING, **fields):
        self.shaping = shaping
        vars(self).update(fields)

    def ingredients(self, spec):
        return self.shaping

    def run(self, work):
        return StageResult(Asked(values={}))


def artifact(digest, name="model.onnx"):
    return Artifact(kind="onnx", name=name, sha256=digest, size=1, made_by="export")


def made(values=None, inputs=None, stage=None):
    given = {role: artifact(digest) for role, digest in (inputs or {}).items()}
    return ingredients_of(stage or Compile(), Request(Asked(values=values or {}), given))


@given(SPEC, SPEC, st.dictionaries(st.text(max_size=4), DIGEST), st.dictionaries(st.text(max_size=4), DIGEST))
def test_the_key_is_that_of_the_spec_and_the_inputs(one, other, these, those):
    a, b = made(one, these), made(other, those)
    assert key_of(made(one, these)) == key_of(a)
    assume((repr(one), these) != (repr(other), those))
    if a != b:
        assert key_of(a) != key_of(b)
        assert why_changed(a, b) not in {"first run", "its stored result was missing or damaged"}


@pytest.mark.parametrize(
    "changed",
    [
        Compile(name="package"),
        Compile(version=2),
        Compile(Ingredients(("numpy", "onnx"), SHAPING.sources, SHAPING.identities)),
        Compile(Ingredients(SHAPING.tools, ("errors.py",), SHAPING.identities)),
        Compile(Ingredients(SHAPING.tools, SHAPING.sources, {"cuda_compiler": "13.1"})),
        Compile(Ingredients(SHAPING.tools, SHAPING.sources)),
    ],
)
def test_every_part_of_the_stage_counts(changed):
    assert key_of(made(stage=changed)) != key_of(made())


def test_versions_of_tools_and_of_python_count(monkeypatch):
    before = key_of(made())
    for tool in ("numpy", "python"):
        monkeypatch.setattr(
            keys_module, "tool_version", lambda name, t=tool: "99" if name == t else tool_version(name)
        )
        assert key_of(made()) != before


def test_a_tool_that_is_not_installed_is_absent():
    assert tool_version("no-such-distribution") == "absent"


def test_names_and_contents_of_source_files_count_and_bytecode_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(keys_module, "PACKAGE", tmp_path)
    folder = tmp_path / "examples"
    folder.mkdir()

    def digest():
        code_digest.cache_clear()
        return code_digest("examples")

    seen = []
    for name, text in (("a.py", "1"), ("a.py", "2"), ("b.c", ""), ("README.md", "read"), ("README.md", "me")):
        (folder / name).write_text(text)
        seen.append(digest())
    assert len(set(seen)) == len(seen)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/a.cpython-311.pyc").write_bytes(b"\0")
    assert digest() == seen[-1]
    code_digest.cache_clear()


def test_code_from_elsewhere_counts_by_its_content_and_not_by_its_place(tmp_path):
    digests = []
    for place, text in (("one", "x = 1"), ("two", "x = 1"), ("three", "x = 2")):
        package = tmp_path / place / "my_methods"
        package.mkdir(parents=True)
        (package / "method.py").write_text(text)
        found = made(stage=Compile(Ingredients(sources=(package,))))
        assert list(found["code_of_others"]) == ["my_methods"]
        digests.append(key_of(found))
    assert digests[0] == digests[1] != digests[2]


def test_why_changed_in_words():
    a = made({"tune": {"trials": 64}, "gone": 1, "text": "x" * 80}, {"onnx": "aa"})
    b = made({"tune": {"trials": 128}, "new": 1, "text": "y" * 80}, {"onnx": "bb"})
    assert why_changed(None, a) == "first run"
    assert why_changed(a, a) == "its stored result was missing or damaged"
    assert why_changed(a, b) == "onnx changed, values.gone was removed, values.new is new and 2 more changes"
    changed = {**a, "spec": b["spec"]}
    assert why_changed(a, changed).startswith(
        "values.gone was removed, values.new is new, values.text changed and 1"
    )
    spec = {"values": {**a["spec"]["values"], "tune": {"trials": 128}}}
    assert why_changed(a, {**a, "spec": spec}) == "values.tune.trials 64 → 128"
    assert why_changed(a, {**a, "code": {**a["code"], "zoo": "other"}}) == "edgepack's zoo changed"
    assert why_changed(a, {**a, "tools": {**a["tools"], "numpy": "1"}}).startswith("numpy ")
    assert why_changed(a, {**a, "tools": {**a["tools"], "cuda_compiler": "1"}}) == "cuda_compiler 13.0 → 1"
    assert why_changed(a, {**a, "key_version": 3}) == "key_version 2 → 3"


def test_scopes_differ_by_target_candidate_and_device():
    scopes = {
        Scope(stage="bench", label="bench", target=target, candidate=candidate, device=device).key("r")
        for target in (None, "a", "b")
        for candidate in (None, "a")
        for device in (None, "a")
    }
    assert len(scopes) == 12


def test_files_with_equal_names_from_other_packages_are_distinguished(tmp_path):
    paths = [tmp_path / package / "method.py" for package in ("one", "other")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(path.parent.name)

    def key(*sources):
        return key_of(made(stage=Compile(Ingredients(sources=sources))))

    before = key(*paths)
    assert before not in {key(paths[0]), key(paths[1]), key(*reversed(paths))}
    for path in paths:
        keys_module.code_digest.cache_clear()
        path.write_text("changed")
        assert key(*paths) != before
        path.write_text(path.parent.name)
    keys_module.code_digest.cache_clear()
    assert key(*paths) == before


@pytest.mark.parametrize("source", ["nowhere/at/all.py", "compression/none.py"])
def test_a_missing_source_is_an_error(source):
    with pytest.raises(EdgepackError, match=f"source {source} does not exist"):
        made(stage=Compile(Ingredients(sources=(source,))))
    with pytest.raises(EdgepackError, match="does not exist"):
        made(stage=Compile(Ingredients(sources=(Path("/nowhere/method.py"),))))


def test_a_change_is_listed_once_without_its_consequences():
    values = {"version": "1", "copy": {"version": "1"}, "figure": 1, "steps": [{"ratio": 1}, 2]}
    files = {"onnx": "aa", "workload": "aa", "record": "aa", "data": "aa"}
    before = made(values, files)
    words = {
        "produced": ("inputs.onnx", "inputs.workload", "inputs.record"),
        "derived": ("inputs.workload", "inputs.record", "spec.values.figure"),
        "names": {
            "spec.values.": "",
            "spec.values.copy.": "",
            "inputs.workload": "records",
            "inputs.record": "records",
        },
    }

    def why(new_values=None, **new_files):
        return why_changed(before, made(values | (new_values or {}), files | new_files), **words)

    followed = {"figure": 2}
    renamed = followed | {"version": "2", "copy": {"version": "2"}}
    assert why(renamed, onnx="bb", workload="bb", record="bb") == "version 1 → 2"
    assert why(followed, onnx="bb", data="bb") == "data changed"
    assert why(followed, onnx="bb", workload="bb", record="bb") == "onnx changed"
    assert why(workload="bb", record="bb") == "records changed"
    assert why(followed) == "figure 1 → 2"
    assert why({"steps": [{"ratio": 3}, 2]}) == "steps.0.ratio 1 → 3"
    assert why({"steps": [{"ratio": 3}]}) == "steps changed"
