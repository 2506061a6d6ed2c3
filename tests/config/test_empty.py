"""Empty lists and blocks are rejected with their position, for every list and block of the schemas."""

from dataclasses import dataclass
from typing import Any, get_origin

import pytest
import yaml

from edgepack.compression.registry import BUILT_IN
from edgepack.config.device import Device, Devices, load_devices
from edgepack.config.plan import examine
from edgepack.config.problems import flatten, is_model
from edgepack.config.recipe import Recipe
from edgepack.config.target import Target, load_target
from edgepack.config.yaml_document import read
from edgepack.errors import ConfigError
from edgepack.spec import MAY_BE_EMPTY

# Files of each kind in which every list and block of its schema stands.
RECIPE = """\
edgepack: 1
name: mine
model:
  source: edgepack.zoo.digits:network
  train: {epochs: 1}
  inputs:
    - {name: x, shape: [1, 3, 8, 8]}
data:
  images:
    folder: images
    preprocess: {crop: [8, 8], mean: [0.5], std: [0.5]}
compress:
  - {method: prune-channels, ratio: 0.5, skip: [a, b], fine_tune: {epochs: 1}}
  - {method: quantize-static, skip: [a, b], mixed: {precisions: [int16, fp32]}}
tune: {trials: 1}
bench: {runs: 10}
gates: {parity: 0.1}
targets:
  - target: arm64
    devices: [virtual:arm64, virtual:rpi4]
    tune: {trials: 2}
"""
CONSTANTS = """\
edgepack: 1
name: mine
model:
  onnx: m.onnx
  inputs:
    - {name: x, shape: [2], value: [1, 2]}
targets:
  - target: arm64
"""
IDX = """\
edgepack: 1
name: mine
model:
  onnx: m.onnx
data:
  idx: {folder: idx, classes: [a, b], mean: [0.5], std: [0.5]}
targets:
  - target: arm64
"""
TARGET = """\
edgepack: 1
name: my
extends: jetson-orin
abi: {libc: "2.35"}
tvm: {kind: cuda}
cpu: {features: [neon]}
gpu: {name: mine}
tune: {cores: [0, 1]}
notes:
  - {text: a, source: b}
"""
STEP = """\
edgepack: 1
name: mine
model:
  source: edgepack.zoo.digits:network
  train: {epochs: 1}
  inputs:
    - {name: x, shape: [1, 1, 8, 8]}
data: {source: "edgepack.zoo.digits:splits"}
compress:
  - {method: NAME, skip: [a, b]}
targets:
  - target: arm64
"""
REQUIRED = {
    "distill": ", teachers: [{weight: 1}], features: [{student: a}], attention: [{student: a}]",
    "low-rank": ", rank: 2",
    "prune-blocks": ", ratio: 0.5, block: [8, 4]",
    "prune-layers": ", count: 1, blocks: [a, b]",
    "prune-weights": ", pattern: [2, 4]",
}  # options of methods, with those that are lists
STEPS = [
    STEP.replace(
        "NAME, skip: [a, b]",
        f"{name}{', skip: [a, b]' * ('skip' in method.spec.model_fields)}{REQUIRED.get(name, '')}",
    )
    for name, method in BUILT_IN.items()
    if f"method: {name}," not in RECIPE and (name in REQUIRED or "skip" in method.spec.model_fields)
]
STEPS[0] = STEPS[0].replace("compress:", "robustness: {severities: [1, 2]}\ncompress:")
DEVICES = "edgepack: 1\ndevices:\n  pi: {host: pi, target: rpi4}\n"

# What may stand empty, with the reason; everything else may not.
EMPTY_ON_PURPOSE = {
    ("RecipeInput", "shape"): "a scalar has no axes",
    ("Cpu", "features"): "instead of those of the extended target",
    ("Target", "notes"): "instead of those of the extended target",
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("images/cat", "images/dog"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.png").write_bytes(b"x")
    (tmp_path / "idx").mkdir()
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        axes = int(name[-1])
        header = bytes([0, 0, 8, axes]) + b"\0\0\0\1" * axes
        (tmp_path / "idx" / f"{name}-ubyte").write_bytes(header + b"\0")
    (tmp_path / "m.onnx").write_bytes(b"\x08\x0a")
    (tmp_path / "edgepack" / "targets").mkdir(parents=True)
    return tmp_path / "edgepack"


def problems(kind: str, text: str, home) -> list[Any]:
    """The problems of a file of this kind."""
    if kind == "recipe":
        (home.parent / "recipe.yaml").write_text(text)
        return list(examine(home.parent / "recipe.yaml").problems)
    path = home / ("devices.yaml" if kind == "devices" else "targets/my.yaml")
    path.write_text(text)
    try:
        load_devices() if kind == "devices" else load_target("my")
    except ConfigError as error:
        return error.problems
    return []


def places(model: Any, node: Any, at: tuple[str | int, ...] = ()):
    """All fields of all models in a document: location, model, name and types."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        here = (*at, key)
        if isinstance(key, str):
            info = model.model_fields[key]
            yield here, model, key, flatten(info.annotation)
        if isinstance(value, dict | list) and (inner := models_at(model, key)):
            step = value["method"] if isinstance(value, dict) and "method" in value else None
            for kind in inner:
                if step is None or step in str(kind.model_fields["method"].annotation):
                    yield from places(kind, value, here)


def models_at(model: Any, key: str | int) -> list[Any]:
    """The models inside a field, those of a list's items included; an item is of its list's model."""
    if isinstance(key, int):
        return [model]
    types = flatten(model.model_fields[key].annotation)
    inner = [i for t in types for i in (flatten(t.__args__[0]) if get_origin(t) is tuple else [t])]
    return [i for i in inner if is_model(i)]


@dataclass(frozen=True)
class Case:
    """A field of one of the documents."""

    kind: str
    text: str
    at: tuple[str | int, ...]
    owner: Any
    name: str


def cases(wanted) -> list[Any]:
    """The fields of all documents whose types match ``wanted``."""
    documents = (
        ("recipe", Recipe, RECIPE),
        ("recipe", Recipe, CONSTANTS),
        ("recipe", Recipe, IDX),
        *(("recipe", Recipe, text) for text in STEPS),
        ("target", Target, TARGET),
        ("devices", Devices, DEVICES),
    )
    return [
        pytest.param(Case(kind, text, at, owner, name), id=f"{kind}-{'.'.join(map(str, at))}")
        for kind, model, text in documents
        for at, owner, name, types in places(model, yaml.safe_load(text))
        if wanted(types)
    ]


def said_at(home, kind: str, text: str, at: tuple[str | int, ...]) -> list[str]:
    """The problems at one position of a document."""
    path = home.parent / "place.yaml"
    path.write_text(text)
    place = read(path)[0].values[at]
    return [p.message for p in problems(kind, text, home) if (p.line, p.column) == place]


def changed(text: str, at: tuple[str | int, ...], value: Any) -> str:
    document = yaml.safe_load(text)
    parent = document
    for part in at[:-1]:
        parent = parent[part]
    parent[at[-1]] = value
    return yaml.safe_dump(document, sort_keys=False)


LISTS = cases(lambda types: any(get_origin(t) is tuple for t in types))
BLOCKS = cases(lambda types: any(is_model(t) for t in types))
OPTIONAL = cases(lambda types: type(None) in types)
LINES = cases(
    lambda types: any(
        t is str for kind in types if get_origin(kind) is tuple for t in flatten(kind.__args__[0])
    )
)


def test_the_documents_are_right_and_have_every_list_of_the_schemas(home):
    recipes = (("recipe", text) for text in (RECIPE, CONSTANTS, IDX, *STEPS))
    for kind, text in (*recipes, ("target", TARGET), ("devices", DEVICES)):
        assert problems(kind, text, home) == []
    covered = {(case.values[0].owner, case.values[0].name) for case in LISTS}
    models, pending = set(), [Recipe, Target, Devices, Device]
    while pending:
        model = pending.pop()
        models.add(model)
        pending += {m for name in model.model_fields for m in models_at(model, name)} - models
    lists = {
        (model, name): info
        for model in models
        for name, info in model.model_fields.items()
        if any(get_origin(t) is tuple for t in flatten(info.annotation))
    }
    assert set(lists) == covered
    marked = {(m.__name__, name) for (m, name), info in lists.items() if MAY_BE_EMPTY in info.metadata}
    assert marked == set(EMPTY_ON_PURPOSE)


@pytest.mark.parametrize("case", LISTS)
def test_an_empty_list_is_refused_at_its_place(home, case):
    said = said_at(home, case.kind, changed(case.text, case.at, []), case.at)
    if (case.owner.__name__, case.name) in EMPTY_ON_PURPOSE:
        assert not [message for message in said if "empty list" in message]
    else:
        (message,) = said
        assert "empty list" in message


@pytest.mark.parametrize("case", BLOCKS)
def test_an_empty_block_is_refused(home, case):
    found = [p.message for p in problems(case.kind, changed(case.text, case.at, {}), home)]
    words = (f"`{case.name}` is an empty block", "missing key", "expected source", "expected exactly one of")
    assert any(word in message for word in words for message in found)


@pytest.mark.parametrize("case", OPTIONAL)
def test_a_key_without_a_value_is_refused_and_null_is_not(home, case):
    said = f"`{case.name}` has no value; set one, or remove the key"
    null = changed(case.text, case.at, None)
    assert null.count(f"{case.name}: null") == 1
    blank = problems(case.kind, null.replace(f"{case.name}: null", f"{case.name}:"), home)
    assert [p.message for p in blank].count(said) == 1
    assert said not in [p.message for p in problems(case.kind, null, home)]


@pytest.mark.parametrize("case", LINES)
def test_a_name_that_stands_twice_is_refused_at_its_second_place(home, case):
    names: Any = yaml.safe_load(case.text)
    for part in case.at:
        names = names[part]
    text = changed(case.text, case.at, [*names, names[0]])
    assert said_at(home, case.kind, text, (*case.at, len(names))) == [
        f"duplicate `{names[0]}` in `{case.name}`"
    ]


def test_the_words(home):
    def said(old, new):
        assert old in RECIPE
        return [
            f"{p.line}:{p.column}: {p.message}" for p in problems("recipe", RECIPE.replace(old, new), home)
        ]

    assert said("devices: [virtual:arm64, virtual:rpi4]", "devices: []") == [
        "20:14: `devices` is an empty list; remove it if there is nothing to list"
    ]
    assert said("    tune: {trials: 2}", "    tune: {}") == [
        "21:11: `tune` is an empty block; remove it if there is nothing to set"
    ]
    assert said("gates: {parity: 0.1}", "gates:") == [
        "17:7: expected a mapping of keys to values, got nothing"
    ]
    assert said("    tune: {trials: 2}", "    tune:") == [
        "21:5: `tune` has no value; set one, or remove the key"
    ]


def test_a_core_that_is_named_twice(home):
    found = problems("target", TARGET.replace("[0, 1]", "[0, 0]"), home)
    assert [f"{p.line}:{p.column}: {p.message}" for p in found] == ["8:19: duplicate core 0"]


def test_lists_that_are_handed_on_are_not_looked_into(home):
    text = TARGET.replace(
        "tvm: {kind: cuda}", "tvm: {kind: cuda, keys: [cuda, cuda], libs: [], host: {mattr: []}}"
    )
    assert problems("target", text, home) == []


def test_a_list_at_the_top_is_one_problem(home):
    assert len(problems("recipe", "- a\n- a\n", home)) == 1
