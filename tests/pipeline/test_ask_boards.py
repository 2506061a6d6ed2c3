"""Boards that cannot be reached are found before a run begins."""

import socket

import pytest

from edgepack.config.plan import make_plan
from edgepack.config.recipe import Tune
from edgepack.engine.events import ignore
from edgepack.errors import UnreachableError
from edgepack.pipeline.ask_boards import ask_boards
from edgepack.pipeline.execute import execute
from edgepack.remote.boards import Boards

RECIPE = """\
edgepack: 1
name: tiny
model:
  source: edgepack.zoo.digits:network
  inputs: [{name: image, shape: [1, 1, 8, 8]}]
targets:
  - {target: rpi4, devices: [attic, cellar]}
"""
ANOTHER = "  - {target: arm64, device: virtual:arm64}\n"


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A plan with two boards that refuse connections, and a virtual one."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        device = f"{{host: 127.0.0.1, port: {taken.getsockname()[1]}, target: rpi4}}"
        (tmp_path / "edgepack").mkdir()
        (tmp_path / "edgepack" / "devices.yaml").write_text(
            f"edgepack: 1\ndevices:\n  attic: {device}\n  cellar: {device}\n"
        )
        (tmp_path / "recipe.yaml").write_text(RECIPE)
        yield make_plan(tmp_path / "recipe.yaml")


def ask(plan, until, budget=None):
    asked = []
    with Boards(plan.devices) as boards:
        try:
            ask_boards(plan, boards, until, budget, lambda event: asked.append(event.text))
        except UnreachableError as error:
            return asked, error
    return asked, None


def test_every_board_is_asked_and_all_that_do_not_answer_are_named(plan):
    asked, error = ask(plan, "bench")
    assert [text for text in asked if text.startswith("asking")] == ["asking attic", "asking cellar"]
    assert error.message == "2 boards cannot be used: attic, cellar"
    assert error.state == "nothing was run"
    assert "--offline" in error.next


def test_other_targets_go_on_without_a_board_that_does_not_answer(plan):
    plan.path.write_text(RECIPE + ANOTHER)
    asked, error = ask(make_plan(plan.path), "bench")
    assert error is None
    assert asked[0] == "asking attic"
    assert asked[1].startswith("attic cannot be used: ")


def test_only_boards_that_the_run_uses_are_asked(plan):
    assert ask(plan, "package") == ([], None)
    assert ask(plan, "evaluate", Tune(trials=4)) == ([], None)
    asked, error = ask(plan, "package", Tune(trials=4))
    assert asked[0] == "asking attic"
    assert not any("cellar" in text for text in asked)
    assert (error.exit_code, error.state) == (4, "nothing was run")
    assert error.next.endswith("--offline")
    _, error = ask(plan, "tune", Tune(trials=4))
    assert "--offline" not in error.next


def test_a_run_that_cannot_reach_its_board_begins_nothing(plan):
    events = []
    with pytest.raises(UnreachableError):
        execute(plan, "bench", listener=events.append)
    assert {type(event).__name__ for event in events} == {"Advanced"}


def test_offline_asks_no_board(plan, monkeypatch):
    monkeypatch.setattr("edgepack.pipeline.execute.Pipeline.run", lambda *_: [])
    assert execute(plan, "bench", listener=ignore, offline=True).errors == []
