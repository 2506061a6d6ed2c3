"""A recipe and its targets become a plan, or a list of problems."""

import pytest

from edgepack.config.plan import make_plan
from edgepack.errors import ConfigError, UsageError
from edgepack.pipeline.pipeline import require_stages

RECIPE = """\
edgepack: 1
name: tiny
model:
  source: edgepack.zoo.digits:network
  inputs:
    - {name: image, shape: [1, 1, 8, 8]}
tune: {trials: 8}
targets:
  - target: rpi4
    device: virtual:rpi4
    tune: {trials: 4, seed: 1}
  - target: arm64
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def test_each_target_is_a_row_with_its_own_budget(recipe):
    plan = make_plan(recipe)
    assert [(target.target.name, target.devices, target.tune.trials) for target in plan.targets] == [
        ("rpi4", ("virtual:rpi4",), 4),
        ("arm64", (), 8),
    ]
    assert plan.base == recipe.parent


def test_only_some_targets(recipe):
    assert [target.target.name for target in make_plan(recipe, only=["arm64"]).targets] == ["arm64"]
    with pytest.raises(UsageError, match="no target rpi3") as caught:
        make_plan(recipe, only=["rpi3"])
    assert "did you mean rpi4?" in caught.value.render()
    with pytest.raises(UsageError) as caught:
        make_plan(recipe, only=["zzz"])
    assert "it has: rpi4, arm64" in caught.value.render()


def test_comments_and_order_do_not_count(recipe):
    digest = make_plan(recipe).digest
    recipe.write_text(
        "# a comment\n"
        + RECIPE.replace("name: tiny\n", "").replace("edgepack: 1\n", "edgepack: 1\nname: tiny\n")
    )
    assert make_plan(recipe).digest == digest
    recipe.write_text(RECIPE.replace("trials: 8", "trials: 9"))
    assert make_plan(recipe).digest != digest


def test_all_problems_are_reported_together(recipe):
    recipe.write_text(RECIPE.replace("trials: 8", "trails: 8").replace("target: arm64", "target: rpi4"))
    with pytest.raises(ConfigError) as caught:
        make_plan(recipe)
    assert len(caught.value.problems) == 2
    assert "edgepack check" in caught.value.render()
    with pytest.raises(ConfigError, match="problem"):
        make_plan(recipe.parent / "none.yaml")


def test_stages_are_known_by_name_and_steps_by_their_method():
    require_stages(["train", "compress", "prune-channels", "quantize-static", "bench", "all"])
    with pytest.raises(UsageError, match="unknown stage complie") as caught:
        require_stages(["complie"])
    assert "did you mean compile?" in caught.value.render()
    with pytest.raises(UsageError) as caught:
        require_stages(["xyz"])
    assert "train-quantized, or all" in caught.value.render()
