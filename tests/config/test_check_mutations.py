"""Randomly mutated recipes: problems with positions, never a traceback."""

import copy

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.api import check
from edgepack.base.paths import shipped_dir


def locations(node, at=()):
    yield at
    if isinstance(node, dict):
        for key, value in node.items():
            yield from locations(value, (*at, key))
    if isinstance(node, list):
        for index, value in enumerate(node):
            yield from locations(value, (*at, index))


DIGITS = yaml.safe_load((shipped_dir("recipes") / "digits.yaml").read_text())
PLACES = [at for at in locations(DIGITS) if at]
REPLACEMENTS = [
    None,
    True,
    -1,
    0,
    3.5,
    "",
    "text",
    "a:b",
    [],
    [1],
    {},
    {"x": 1},
    "virtual:",
    [[]],
    [None],
    10**17,
]


def replacements():
    """Copy the values, since a later mutation may change what an earlier one inserted."""
    return st.sampled_from(REPLACEMENTS).map(copy.deepcopy)


def parent_of(data, at):
    for part in at[:-1]:
        data = data[part]
    return data


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_any_mutation_gives_problems_inside_the_file_never_a_traceback(tmp_path_factory, data):
    recipe = copy.deepcopy(DIGITS)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.sampled_from([p for p in locations(recipe) if p]))
        parent = parent_of(recipe, at)
        action = data.draw(st.sampled_from(["replace", "delete", "rename", "add"]))
        if action == "replace":
            parent[at[-1]] = data.draw(replacements())
        elif action == "delete" and len(parent) > 1:
            del parent[at[-1]]
        elif action == "rename" and isinstance(parent, dict):
            parent[at[-1] + data.draw(st.sampled_from(["s", "_", "x y"]))] = parent.pop(at[-1])
        elif action == "add" and isinstance(parent, dict):
            parent["surely-unknown"] = data.draw(replacements())
    path = tmp_path_factory.getbasetemp() / "mutated.yaml"
    text = yaml.safe_dump(recipe, sort_keys=False)
    path.write_text(text)
    lines = text.splitlines()
    for problem in check(path):
        assert problem.file == str(path)
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
        assert problem.message


@pytest.mark.parametrize("at", [p for p in PLACES if isinstance(p[-1], str) and p[0] != "compress"], ids=str)
def test_any_misspelt_key_is_reported_at_its_position(tmp_path, at):
    recipe = copy.deepcopy(DIGITS)
    parent = parent_of(recipe, at)
    items = [(key + "z" if key == at[-1] else key, value) for key, value in parent.items()]
    parent.clear()
    parent.update(items)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    unknown = [
        p for p in check(path) if p.message.startswith(f"unknown key `{at[-1]}z`; did you mean `{at[-1]}`?")
    ]
    assert len(unknown) == 1
    line = path.read_text().splitlines()[unknown[0].line - 1]
    assert line[unknown[0].column - 1 :].startswith(f"{at[-1]}z:")
