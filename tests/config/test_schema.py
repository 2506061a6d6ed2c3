"""The JSON Schemas for editors are up to date and accept the shipped files."""

import copy
import importlib.util
import re

import jsonschema
import pytest

from edgepack.base.paths import shipped_dir
from edgepack.config.recipe import Recipe
from edgepack.config.schema import KINDS, render, schema
from edgepack.config.target import Target
from edgepack.config.yaml_document import read
from edgepack.config.yaml_model import read_model

SHIPPED = [
    (kind[:-1], path) for kind in ("targets", "recipes") for path in sorted(shipped_dir(kind).glob("*.yaml"))
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_committed_schema_is_the_generated_one(kind):
    committed = (shipped_dir("schemas") / f"{kind}.schema.json").read_text()
    assert committed == render(kind), "run: python docs/generate.py"


@pytest.mark.parametrize("kind", KINDS)
def test_schemas_are_valid_and_say_what_they_are(kind):
    body = schema(kind)
    jsonschema.Draft202012Validator.check_schema(body)
    assert body["title"] == f"edgepack {kind}"
    assert body["$id"] == f"urn:edgepack:schema:{kind}:1"


@pytest.mark.parametrize(("kind", "path"), SHIPPED, ids=lambda v: getattr(v, "stem", v))
def test_shipped_files_fit_their_schema_and_name_it(kind, path):
    jsonschema.Draft202012Validator(schema(kind)).validate(read(path)[0].data)
    header, name = path.read_text().splitlines()[0].split("$schema=")
    assert header == "# yaml-language-server: "
    assert (path.parent / name).resolve() == (shipped_dir("schemas") / f"{kind}.schema.json").resolve()


def test_an_editor_would_mark_a_misspelt_key():
    data = read(shipped_dir("recipes") / "digits.yaml")[0].data
    validator = jsonschema.Draft202012Validator(schema("recipe"))
    for path in ((), ("model",), ("targets", 0), ("tune",), ("compress", 0)):
        wrong = copy.deepcopy(data)
        node = wrong
        for part in path:
            node = node[part]
        node["misspelt"] = 1
        assert not validator.is_valid(wrong), path


def test_a_target_that_extends_another_may_leave_keys_out():
    validator = jsonschema.Draft202012Validator(schema("target"))
    assert validator.is_valid({"edgepack": 1, "name": "my", "extends": "rpi4", "cpu": {"cores": 4}})
    assert not validator.is_valid({"name": "my", "extends": "rpi4"})


def descriptions(node, at=""):
    if isinstance(node, dict):
        for name, field in node.get("properties", {}).items():
            yield f"{at}.{name}", field.get("description", "")
        for name, part in node.get("$defs", {}).items():
            yield from descriptions(part, name)


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_described(kind):
    # The tag of a compression step is described by the step.
    missing = [name for name, text in descriptions(schema(kind)) if not text and not name.endswith(".method")]
    assert missing == []


def test_generated_files_are_up_to_date():
    spec = importlib.util.spec_from_file_location(
        "generate", shipped_dir("recipes").parent / "docs" / "generate.py"
    )
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    stale = [str(path) for path, text in generate.generated().items() if path.read_text() != text]
    assert stale == [], "run: python docs/generate.py"
    models = {m.__name__ for m in generate.reachable(generate.Recipe)}
    page = (shipped_dir("recipes").parent / "docs" / "recipe.md").read_text()
    assert {name for name in models if f"<!-- keys: {name} -->" not in page} == set()


@pytest.mark.parametrize("page", ["recipe.md", "add-a-target.md"])
def test_yaml_in_the_docs_has_no_unknown_key(page, tmp_path):
    """Examples are parts of a file; all of their keys must exist."""
    text = (shipped_dir("recipes").parent / "docs" / page).read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 1
    for index, block in enumerate(blocks):
        path = tmp_path / f"{index}.yaml"
        path.write_text("model:\n" + block if block.startswith("  ") else block)
        model = Recipe if page == "recipe.md" else Target
        wrong = [
            p.message for p in read_model(path, model).problems if not p.message.startswith("missing key")
        ]
        assert wrong == [], block
