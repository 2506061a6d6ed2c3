"""Methods of other packages: an invalid entry point is reported with its reason, and does not affect others."""

import sys
import types
from importlib.metadata import EntryPoint
from typing import Literal

import pytest

from edgepack.api import check
from edgepack.compression import Step, TorchMethod, TorchResult
from edgepack.compression.entry_points import GROUP, with_entry_points
from edgepack.compression.registry import BUILT_IN
from edgepack.config import problems


class Halve(Step):
    """Halve something."""

    method: Literal["halve"]


class Unnamed(Step):
    """A step that names no method."""


def apply(module, step, context):
    return TorchResult(module, {})


GOOD = TorchMethod(spec=Halve, apply=apply)


@pytest.fixture
def other(monkeypatch):
    """A module of another package, with contents set by the test."""
    module = types.ModuleType("other_methods")
    monkeypatch.setitem(sys.modules, "other_methods", module)
    return module


def found(name, value="other_methods:METHOD"):
    return with_entry_points(BUILT_IN, [EntryPoint(name, value, GROUP)])


def test_a_method_is_found_by_its_name_with_where_it_comes_from(other):
    other.METHOD = GOOD
    registry = found("halve")
    assert list(registry.methods) == [*BUILT_IN, "halve"]
    assert registry.methods["halve"].origin == "other_methods"
    assert registry.methods["halve"].tools() == ("other_methods",)
    assert registry.unusable == {}


@pytest.mark.parametrize(
    ("name", "method", "why"),
    [
        ("halve", None, "expected a TorchMethod or an OnnxMethod, got a NoneType"),
        ("halve", TorchMethod(spec=dict, apply=apply), "not a subclass"),
        ("halve", TorchMethod(spec=Unnamed, apply=apply), "does not say method"),
        ("third", GOOD, "declares method 'halve', but its entry point is 'third'"),
        ("prune-channels", BUILT_IN["prune-channels"], "duplicate method name, also in edgepack"),
    ],
)
def test_what_is_no_method_is_told_and_left_out(other, name, method, why):
    other.METHOD = method
    registry = found(name)
    assert registry.methods == BUILT_IN
    assert why in registry.unusable[name]
    assert "other_methods" in registry.unusable[name]


@pytest.mark.parametrize("value", ["no_such_package:METHOD", "other_methods:NOTHING"])
def test_what_cannot_be_imported_is_told(other, value):
    registry = found("halve", value)
    assert "Error" in registry.unusable["halve"]
    assert registry.methods == BUILT_IN


def test_a_recipe_that_asks_for_it_is_told_why_at_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(problems, "REGISTRY", found("halve", "no_such_package:METHOD"))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "edgepack: 1\nname: r\nmodel: {onnx: m.onnx}\ncompress:\n  - {method: halve}\ntargets: [{target: rpi4}]\n"
    )
    (problem,) = [str(p) for p in check(recipe) if "halve" in str(p)]
    assert problem.startswith(f"{recipe}:5:14: method `halve` cannot be used: no_such_package:METHOD")


def test_code_of_a_method_without_sources_is_its_whole_package(other, tmp_path, monkeypatch):
    for name, is_package in (("single", False), ("whole", True)):
        folder = tmp_path / name if is_package else tmp_path
        folder.mkdir(exist_ok=True)
        (folder / ("__init__.py" if is_package else f"{name}.py")).write_text(
            "from typing import Literal\nfrom edgepack.compression import Step\n"
            "class Spec(Step):\n    method: Literal['halve']\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    import single
    import whole

    assert TorchMethod(spec=single.Spec, apply=apply).code() == (tmp_path / "single.py",)
    assert TorchMethod(spec=whole.Spec, apply=apply).code() == (tmp_path / "whole",)
