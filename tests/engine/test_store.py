"""The store: atomic, content-addressed; damaged files are missing; crashes leave nothing behind."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.base.files import canonical_json, sha256_file, sha256_json, write_atomic
from edgepack.engine.store import Record, Store

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def add(store, tmp_path, data=b"weights", name="model.bin"):
    source = tmp_path / name
    source.write_bytes(data)
    return store.add(source, kind="onnx", name=name, made_by="export")


def record(**artifacts):
    return Record(artifacts=artifacts, figures={"accuracy": 0.5}, seconds=1.0)


@given(JSON)
def test_the_same_value_has_one_spelling(value):
    assert canonical_json(value) == canonical_json(json.loads(canonical_json(value)))


def test_key_order_does_not_count_and_nan_is_refused():
    assert sha256_json({"a": 1, "b": [2]}) == sha256_json({"b": [2], "a": 1})
    assert sha256_json({"a": 1}) != sha256_json({"a": 2})
    with pytest.raises(ValueError, match="JSON compliant"):
        sha256_json({"a": float("nan")})


def test_a_file_is_stored_once_per_content(store, tmp_path):
    first, second = add(store, tmp_path), add(store, tmp_path, name="other.bin")
    assert first.sha256 == second.sha256 == sha256_file(store.path(first))
    assert store.path(first).read_bytes() == b"weights"
    assert store.path(first).stat().st_mode & 0o777 == 0o444
    assert len([p for p in store.root.rglob("*") if p.is_file()]) == 1


def test_a_saved_record_is_found(store, tmp_path):
    saved = store.save("k", record(onnx=add(store, tmp_path)))
    assert store.find("k") == saved
    assert store.find("other") is None


@pytest.mark.parametrize("damage", [b"", b"weightz", b"weights and more", None])
def test_a_damaged_file_counts_as_missing_and_is_mended_by_the_next_add(store, tmp_path, damage):
    artifact = add(store, tmp_path)
    store.save("k", record(onnx=artifact))
    blob = store.path(artifact)
    blob.unlink()
    if damage is not None:
        blob.write_bytes(damage)
    assert store.find("k") is None
    add(store, tmp_path)
    assert store.find("k") is not None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"artifacts": {}}'])
def test_a_damaged_record_counts_as_missing(store, text):
    store.save("k", record())
    (store.root / "stages" / "k.json").write_text(text)
    assert store.find("k") is None


def test_save_returns_the_record_that_find_will_return(store):
    made = Record(artifacts={}, figures={"shape": (1, 2), "loss": float("nan")}, seconds=0.0)
    saved = store.save("k", made)
    assert saved.figures == {"shape": [1, 2], "loss": None}
    assert store.find("k") == saved


def test_the_ingredients_of_a_scope_are_remembered(store):
    assert store.last("digits/train/-/-") is None
    store.remember("digits/train/-/-", {"spec": {"epochs": 3}})
    store.remember("digits/train/rpi4/-", {"spec": {"epochs": 4}})
    assert store.last("digits/train/-/-") == {"spec": {"epochs": 3}}
    for path in (store.root / "last").iterdir():
        path.write_text("[")
    assert store.last("digits/train/-/-") is None


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write_atomic(path, b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_copy_leaves_nothing(store, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        add(store, tmp_path)
    assert [p for p in store.root.rglob("*") if p.is_file()] == []


def test_scratch_folders_go_and_those_at_work_stay(store):
    with store.scratch() as mine:
        (mine / "file").write_bytes(b"x")
        with store.scratch() as other:
            assert mine.is_dir()
            assert other != mine
        assert not other.exists()
        assert (mine / "file").exists()
    assert list(store.root.iterdir()) == []


def test_what_a_killed_run_left_is_removed_by_the_next(store):
    code = f"""
import os, pathlib
from edgepack.engine.store import Store
with Store(pathlib.Path({str(store.root)!r})).scratch() as folder:
    (folder / "file").write_bytes(b"x")
    os._exit(1)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert len(list(store.root.glob(".work-*/file"))) == 1
    with store.scratch() as folder:
        assert list(store.root.glob(".work-*")) == [folder]


class Killed(BaseException):
    """The process ends here."""


def unfinished(store, key, *, fresh=False):
    """What a stage finds of an earlier run that was killed; it is killed as well."""
    with pytest.raises(Killed), store.unfinished(key, fresh=fresh) as folder:
        found = sorted(path.name for path in folder.iterdir())
        (folder / "half").write_text("done")
        raise Killed
    return found


def test_what_a_killed_stage_has_done_is_kept_until_it_is_done(store):
    assert not store.has_unfinished("k")
    assert unfinished(store, "k") == []
    assert store.has_unfinished("k")
    assert unfinished(store, "k") == ["half"]
    assert unfinished(store, "other") == []
    with store.unfinished("k") as folder:
        assert (folder / "half").read_text() == "done"
    assert not store.has_unfinished("k")
    assert unfinished(store, "k") == []


def test_a_fresh_run_does_not_continue(store):
    unfinished(store, "k")
    assert unfinished(store, "k", fresh=True) == []


def test_a_stage_that_has_nothing_to_keep_leaves_no_folder(store):
    with pytest.raises(Killed), store.unfinished("k"):
        raise Killed
    assert not (store.root / "unfinished/k").exists()


def test_two_processes_in_one_stage_do_not_share_their_folder(store):
    with store.unfinished("k") as first, store.unfinished("k") as second, store.unfinished("l") as other:
        assert first.is_dir()
        assert second is None
        assert other.is_dir()
    assert not first.exists()


def test_what_was_left_for_weeks_is_removed_unless_it_is_in_use(store):
    for key in ("old", "used", "new"):
        unfinished(store, key)
    for key in ("old", "used"):
        os.utime(store.root / "unfinished" / key, (0, 0))
    with store.unfinished("used") as used:
        os.utime(used, (0, 0))
        unfinished(store, "k")
        assert sorted(path.name for path in (store.root / "unfinished").iterdir()) == ["k", "new", "used"]
