"""The most threads of an inference: one number on the command line, in recipes and in the agent."""

import re

import click
import pytest
from pydantic import ValidationError

from edgepack.agent.build import SOURCES
from edgepack.cli import board
from edgepack.config.recipe import Bench


@pytest.mark.parametrize("command", [board.bench, board.profile])
def test_the_agent_takes_the_threads_that_commands_and_recipes_take(command):
    (taken,) = re.findall(r'"--threads".* (\d+)\}', (SOURCES / "options.c").read_text())
    (option,) = (each for each in command.params if each.name == "threads")
    assert isinstance(option.type, click.IntRange)
    assert option.type.max == int(taken)
    assert Bench(threads=int(taken)).threads == int(taken)
    with pytest.raises(ValidationError):
        Bench(threads=int(taken) + 1)
