import hashlib
import json

import pytest
from bundles import FILES, RECIPE, contents
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edgepack.bundle.archive import pack, read_manifest
from edgepack.bundle.manifest import FileEntry, Manifest, RecipeInfo
from edgepack.config.recipe import Recipe
from edgepack.errors import InputError
from edgepack.remote.preflight import BoardFacts
from edgepack.remote.preflight import _problems as preflight_problems

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
        (("manifest.json",), "in the place of the manifest itself"),
        (("manifest.json/x",), "in the place of the manifest itself"),
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
            {"edgepack": 5},
            "written by a newer edgepack: manifest version 5, this one reads up to 4; update edgepack",
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


@pytest.mark.parametrize(
    ("block", "change"),
    [
        ("target", {"name": "rpi4\x1b]0;title\x07"}),
        ("target", {"cpu_features": ["neon\n"]}),
        ("target", {"tvm": {"kind": "llvm\x9b2J"}}),
        ("target", {"abi": {"arch": "aarch64", "libc": "2." + "9" * 5000}}),
        ("target", {"abi": {"arch": "aarch64", "libc": "2.\uff13\uff11"}}),
        ("tools", {"apache-tvm\u2028": "1"}),
    ],
)
def test_text_that_would_move_the_cursor_or_is_absurd_is_refused(block, change):
    document = json.loads(manifest().to_bytes())
    document[block] |= change
    with pytest.raises(InputError):
        Manifest.parse(json.dumps(document).encode(), where="m.json")


def test_names_have_a_longest_length():
    manifest(name="a" * 64, version="1" * 64)
    for change in ({"name": "a" * 65}, {"version": "1" * 65}):
        with pytest.raises(ValidationError):
            manifest(**change)


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.just(10**5000), st.floats(), st.text(max_size=20),
    st.just("9" * 5000), st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(data=st.data(), odd=ODD)
def test_any_value_anywhere_is_refused_or_can_be_used(data, odd):
    """A value is replaced by another of any type: what is accepted must not fail later in preflight or in print."""
    document = json.loads(manifest(FileEntry(path="model/model.so", sha256=SHA, size=3)).to_bytes())
    place = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = odd
    try:
        text = json.dumps(document).encode()
    except ValueError:  # more digits than Python writes
        return
    try:
        made = Manifest.parse(text, where="m.json")
    except InputError:
        return
    assert made.digest
    assert made.filename.isprintable()
    facts = BoardFacts(
        arch="aarch64",
        bits=64,
        libc="glibc 2.36",
        features=frozenset({"fp"}),
        folder="/",
        writable=True,
        noexec=False,
        free_bytes=None,
        libraries=frozenset(),
        aside={},
        gpu=False,
        l4t=None,
    )
    problems = preflight_problems(facts, made.target, 0, [], made.agent_linking)
    assert all(text.isprintable() for text in problems)


@pytest.mark.parametrize("data", [b"", b"[]", b"nil", b"\xff\xfe", b"[" * 100_000, b"1" * 5000])
def test_what_is_not_a_manifest_is_an_error_of_ours(data):
    with pytest.raises(InputError):
        Manifest.parse(data, where="m.json")
