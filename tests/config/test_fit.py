"""Steps that depend on what the recipe's targets have arithmetic for."""

import pytest

from edgepack import api
from edgepack.config.plan import make_plan
from edgepack.config.target import load_target

RECIPE = """\
edgepack: 1
name: tiny
version: 0.1.0
model: {{source: "edgepack.zoo.mlperf_tiny:autoencoder", inputs: [{{name: x, shape: [1, 640]}}]}}
compress:
  - method: fp16
    compute: {compute}
targets: [{targets}]
"""


@pytest.fixture
def recipe(tmp_path):
    def write(compute, *targets):
        listed = ", ".join(f"{{target: {name}}}" for name in targets)
        path = tmp_path / "recipe.yaml"
        path.write_text(RECIPE.format(compute=compute, targets=listed))
        return path

    return write


def test_computing_in_float16_needs_targets_that_have_it(recipe):
    (problem,) = api.check(recipe("fp16", "rpi5", "rpi4", "jetson-orin"))
    assert (problem.line, problem.column) == (7, 14)
    assert problem.message.startswith("rpi4 has no arithmetic in float16: every value would be converted")
    assert "expected `auto` or `fp32`" in problem.message
    assert api.check(recipe("fp16", "rpi5", "jetson-orin")) == []
    assert api.checked(recipe("fp16", "rpi5")).notes == ()


def test_auto_says_what_it_does_for_which_target(recipe):
    path = recipe("auto", "rpi5", "rpi4", "x86-64-v3")
    assert api.check(path) == []
    (note,) = api.checked(path).notes
    assert "rpi4, x86-64-v3 have no arithmetic in float16: weights are stored in float16" in note
    assert "for float16 on rpi5, use a recipe of its own" in note
    assert not make_plan(path).float16
    path = recipe("auto", "rpi5", "jetson-orin")
    assert api.checked(path).notes == ("fp16: rpi5, jetson-orin compute in float16",)
    assert make_plan(path).float16
    assert api.checked(recipe("fp32", "rpi4")).notes == ()


@pytest.mark.parametrize(
    ("target", "float16", "bfloat16"),
    [("rpi4", False, False), ("rpi5", True, False), ("x86-64-v3", False, False), ("jetson-orin", True, True)],
)
def test_what_a_target_computes_in(target, float16, bfloat16):
    found = load_target(target)
    assert (found.computes_in("float16"), found.computes_in("bfloat16")) == (float16, bfloat16)
