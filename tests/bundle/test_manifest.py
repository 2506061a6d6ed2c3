import hashlib
import json

import pytest
from bundles import FILES, RECIPE, contents
from pydantic import ValidationError

from edgepack.bundle.archive import pack, read_manifest
from edgepack.bundle.manifest import FileEntry, Manifest, RecipeInfo
from edgepack.config.recipe import Recipe
from edgepack.errors import InputError

SHA = "0" * 64


def manifest(*files: FileEntry, **changes) -> Manifest:
    given = contents(**changes)
    return Manifest(**{name: getattr(given, name) for name in type(given).model_fields}, files=files)


def test_bytes_round_trip_and_name_the_release():
    made = manifest(FileEntry(path="model/model.so", sha256=SHA, size=3))
    data = made.to_bytes()
    assert Manifest.parse(data, where="x") == made
    assert Manifest.parse(data, where="x").to_bytes() == data
    assert made.digest == hashlib.sha256(data).hexdigest()
    assert manifest(FileEntry(path="model/model.so", sha256=SHA, size=4)).digest != made.digest


def test_the_recipe_inside_can_be_parsed_again(tmp_path):
    made = read_manifest(pack(tmp_path / "a.edgepack", contents(), FILES))
    shaping = {"targets": RECIPE.model_dump(mode="json")["targets"], **made.recipe.content}
    assert Recipe.model_validate_json(json.dumps(shaping)) == RECIPE
    assert set(made.recipe.content) == {"edgepack", "name", "version", "model", "data", "compress"}
    assert made.recipe == RecipeInfo.of(RECIPE, RECIPE.compress)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "../x", "lib/../../x", "lib//x", "./x", "lib/.x", ".ssh/authorized_keys", "a\0b",
        "a b", "a\\b", "ü", "", "lib/", "x" * 101, "a\n",
    ],
)  # fmt: skip
def test_paths_that_could_leave_the_folder_or_surprise_are_refused(path):
    with pytest.raises(ValidationError, match="not a path allowed in a bundle"):
        FileEntry(path=path, sha256=SHA, size=0)


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (("b", "a"), "not sorted"),
        (("a", "a"), "listed twice"),
        (("lib", "lib/x.so"), "lies inside the file 'lib'"),
        (("manifest.json",), "cannot list itself"),
    ],
)
def test_a_list_that_cannot_be_unpacked_is_refused(paths, says):
    with pytest.raises(ValidationError, match=says):
        manifest(*(FileEntry(path=path, sha256=SHA, size=0) for path in paths))


@pytest.mark.parametrize(("mode", "fine"), [(0o644, True), (0o755, True), (0o4755, False), (0o777, False)])
def test_only_two_modes_exist(mode, fine):
    try:
        FileEntry(path="a", sha256=SHA, size=0, mode=mode)
    except ValidationError:
        assert not fine
    else:
        assert fine


def test_the_file_name_of_a_bundle():
    assert contents().filename == "digits-0.1.0-rpi4.edgepack"
    assert contents(candidate="baseline").filename == "digits-baseline-0.1.0-rpi4.edgepack"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"edgepack": 3},
            "written by a newer edgepack: manifest version 3, this one reads up to 2; update edgepack",
        ),
        ({"edgepack": 0}, "rebuild the bundle"),
        ({"edgepack": True}, "rebuild the bundle"),
        ({"edgepack": "1"}, "rebuild the bundle"),
        ({"kind": "report"}, "its kind is 'report'"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_another_schema_is_named_as_such(change, says):
    document = json.loads(manifest().to_bytes()) | change
    with pytest.raises(InputError) as caught:
        Manifest.parse(json.dumps(document).encode(), where="m.json")
    assert says in caught.value.render()


@pytest.mark.parametrize("data", [b"", b"[]", b"nil", b"\xff\xfe", b"[" * 100_000, b"1" * 5000])
def test_what_is_not_a_manifest_is_an_error_of_ours(data):
    with pytest.raises(InputError):
        Manifest.parse(data, where="m.json")
