"""Older documents stay readable: those of each version are opened, newer ones rejected with a clear error."""

import hashlib
import json
import shutil
from typing import get_args

import fields
import kept
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack import api
from edgepack.bundle.layout import MANIFEST
from edgepack.bundle.manifest import Manifest
from edgepack.config.device import load_devices
from edgepack.config.target import load_target
from edgepack.errors import InputError, IntegrityError
from edgepack.measuring.measurement import Measurement
from edgepack.pipeline.trace import Trace
from edgepack.reporting.document import Report
from edgepack.reporting.fold import fold
from edgepack.reporting.html import to_html
from edgepack.reporting.markdown import to_markdown
from edgepack.spec import SchemaVersionError
from edgepack.spec.document import check_version, is_canonical, readable_json
from edgepack.tuning import store as store_module
from edgepack.tuning.store import FORMAT, RecordStore, open_database, read_untuned

NEWER = "written by a newer edgepack: {}, this one reads up to {}; update edgepack"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON.filter(lambda value: isinstance(value, dict | list) and value))
def test_a_value_has_one_spelling(value):
    try:
        spelt = readable_json(value)
    except UnicodeEncodeError:  # half a surrogate pair
        return
    assert is_canonical(spelt)
    assert not is_canonical(spelt.rstrip())
    assert not is_canonical(json.dumps(value).encode())


@given(st.binary(max_size=40))
def test_what_is_no_json_has_no_spelling(data):
    assert not is_canonical(b"{" + data)


@given(st.integers() | st.booleans() | st.none() | st.text(max_size=3) | st.floats(), st.integers(1, 9))
def test_a_version_is_read_up_to_the_newest(version, newest):
    if type(version) is int and 1 <= version <= newest:
        assert check_version("run", version, newest, where="x", hint="h") == version
        return
    with pytest.raises(SchemaVersionError) as caught:
        check_version("run", version, newest, where="x", hint="h")
    newer = type(version) is int and version > newest
    assert (caught.value.message == NEWER.format(f"run version {version}", newest)) == newer


def test_each_version_has_its_fields_and_its_files():
    committed, now = json.loads(fields.PATH.read_text()), fields.current()
    assert now == committed, "fields changed: see tests/versions/fields.py"
    for name, document in (
        ("bundle", "manifest"),
        ("report", "report"),
        ("measurement", "measurement"),
        ("trace", "trace"),
    ):
        for version in range(1, now[document]["version"] + 1):
            assert list(kept.FILES.glob(f"{name}-{version}*")), (
                f"no {name} of version {version} in tests/versions/files"
            )


@pytest.mark.parametrize("bundle", kept.BUNDLES, ids=lambda path: path.stem)
def test_a_bundle_is_verified_inspected_and_unpacked(bundle, tmp_path):
    files = kept.unpack(bundle)
    digest = hashlib.sha256(files[MANIFEST][0]).hexdigest()
    manifest = api.verify(bundle)
    assert manifest == api.inspect(bundle)
    assert manifest.digest == digest
    assert manifest.data == files[MANIFEST][0]
    assert (manifest.name, manifest.candidate, manifest.target.name) == ("digits", "release", "host")
    assert [one.stage for one in manifest.compression] == ["source", "prune-channels"]
    api.extract(bundle, tmp_path / "out")
    assert {path: (tmp_path / "out" / path).read_bytes() for path in files} == {
        path: data for path, (data, _) in files.items()
    }


@pytest.mark.parametrize("bundle", kept.BUNDLES, ids=lambda path: path.stem)
def test_another_spelling_of_a_manifest_is_still_damage(bundle, tmp_path):
    spelt = json.dumps(json.loads(kept.unpack(bundle)[MANIFEST][0])).encode()
    with pytest.raises(IntegrityError) as caught:
        api.verify(kept.repack(bundle, tmp_path / "a.edgepack", spelt))
    assert caught.value.why == "manifest.json is not in its canonical form"


def test_a_newer_bundle_is_named_as_such(tmp_path):
    newer = kept.of_version(kept.NEWEST, tmp_path / "a.edgepack", 5)
    for read in (
        api.inspect,
        api.verify,
        lambda path: api.extract(path, tmp_path / "out"),
        lambda path: api.deploy(path, "pi"),
        lambda path: api.bench(path, "pi"),
    ):
        with pytest.raises(SchemaVersionError) as caught:
            read(newer)
        assert caught.value.message == NEWER.format("manifest version 5", 4)
        assert caught.value.exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", kept.REPORTS, ids=lambda path: path.stem)
def test_a_report_is_read_and_drawn(path):
    report = api.report(str(path))
    assert report.edgepack == Report.schema_version()
    assert [(row.target, row.candidate) for row in report.rows] == [("host", "baseline"), ("host", "release")]
    assert [gate.status for gate in report.gates] == ["passed", "passed"]
    assert Report.parse(report.to_bytes(), where="again") == report
    assert "digits" in to_markdown(report)
    assert "digits" in to_html(report)


def test_a_newer_report_is_named_as_such(tmp_path):
    value = json.loads((kept.FILES / "report-3.json").read_text()) | {"edgepack": 4, "surprise": 1}
    (tmp_path / "report.json").write_text(json.dumps(value))
    with pytest.raises(SchemaVersionError) as caught:
        api.report(str(tmp_path))
    assert caught.value.message == NEWER.format("report version 4", 3)


@pytest.mark.parametrize("trace", ["trace-1.jsonl", "trace-2.jsonl", "trace-3.jsonl"])
def test_a_trace_gives_the_report_of_its_run(trace):
    report = fold(Trace.load(kept.FILES / trace).events)
    saved = Report.load(kept.FILES / "report-2.json")
    assert all(row.weights_size > 0 and row.weights_memory > 0 for row in report.rows)
    since = {"weights_size": None, "weights_memory": None}  # version 2 had no such figures
    assert (
        report.run_id, report.exit_code, tuple(row.model_copy(update=since) for row in report.rows), report.gates
    ) == (saved.run_id, saved.exit_code, saved.rows, saved.gates)  # fmt: skip


def test_an_older_trace_has_the_events_of_this_version():
    older, newer = (Trace.load(kept.FILES / f"trace-{version}.jsonl") for version in (1, 2))
    assert older.events == newer.events
    scopes = {(e.scope.label, e.scope.candidate, e.scope.shared) for e in older.events if hasattr(e, "scope")}
    assert {("train", "baseline", True), ("export", "baseline", False)} <= scopes


def test_problems_of_a_model_are_read_from_older_reports_and_traces(tmp_path):
    problem = {"operator": "Det", "node": "d", "message": "m", "why": "w", "next": "n"}
    error = {"type": "UnsupportedError", "message": "m", "exit_code": 2, "obstacles": [problem]}
    report = json.loads((kept.FILES / "report-1.json").read_text()) | {"errors": [error]}
    assert Report.parse(json.dumps(report).encode(), where="r").errors[0].model_problems == (problem,)
    first = (kept.FILES / "trace-1.jsonl").read_text().splitlines()[0]
    ended = {"event": "run-interrupted", "error": error}
    (tmp_path / "t.jsonl").write_text(f"{first}\n{json.dumps(ended)}\n")
    assert Trace.load(tmp_path / "t.jsonl").events[1].error.model_problems == (problem,)
    newer = first.replace('"trace":1', '"trace":2')
    (tmp_path / "t.jsonl").write_text(f"{newer}\n{json.dumps(ended)}\n")
    with pytest.raises(InputError, match="not an event of a trace"):
        Trace.load(tmp_path / "t.jsonl")


@given(JSON)
def test_whatever_an_older_document_holds_is_read_or_refused(value):
    for document in (Report, Manifest):
        (kind,) = get_args(document.model_fields["kind"].annotation)
        head = {"kind": kind, "edgepack": 1}
        for part in ("rows", "stages", "errors", "variant"):
            with pytest.raises(InputError):
                document.parse(json.dumps(head | {part: value}).encode(), where="x")


def test_a_measurement_is_read():
    found = Measurement.load(kept.FILES / "measurement-1.json")
    assert (found.device, len(found.samples_ns)) == ("virtual:host", 30)


def test_devices_are_read():
    found = load_devices(kept.FILES / "devices-1.yaml").devices
    assert {name: device.target for name, device in found.items()} == {"pi": "rpi4", "qemu": "arm64"}


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """A target, and the store that has records for it."""
    key = json.loads((kept.FILES / "records-1/key.json").read_text())
    monkeypatch.setattr(store_module, "version", lambda _: key["apache-tvm"])
    value = load_target("x86-64-v3").model_dump(mode="json") | {"name": "host"}
    value |= {part: key[part] for part in ("abi", "cpu", "gpu", "tvm")}
    target = type(load_target("x86-64-v3")).model_validate_json(json.dumps(value))
    # The folder's name says what the key does; it is the one that the edgepack of that time gave it.
    shutil.copytree(kept.FILES / "records-1", tmp_path / "host-940efb642b145635")
    return target, RecordStore(tmp_path)


def test_tuning_records_are_found_and_read(measured):
    target, store = measured
    assert set(store.files(target)) == {"workload.json", "tuning_record.json", "untuned.json"}
    with store.lock(target) as folder:
        assert len(open_database(folder).get_all_tuning_records()) == 4
        assert len(read_untuned(folder)) == 5


def test_tuning_records_are_found_although_targets_have_a_new_field(measured):
    target, store = measured
    folder = store.path(target)
    older = json.loads((folder / "key.json").read_text())
    del older["cpu"]["l3_kib"]
    target = target.model_copy(update={"cpu": target.cpu.model_copy(update={"l3_kib": None})})
    (folder / "key.json").write_text(json.dumps(older))
    folder = folder.rename(folder.with_name("host-0123456789abcdef"))
    assert store.path(target) == store.folder(target) == folder
    other = target.model_copy(update={"tvm": {"kind": "llvm"}})
    assert store.path(other) != folder


def test_newer_tuning_records_are_named_as_such(measured):
    target, store = measured
    path = store.path(target) / "key.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": FORMAT + 1}))
    with pytest.raises(SchemaVersionError) as caught:
        store.folder(target)
    assert caught.value.message == NEWER.format(f"tuning records version {FORMAT + 1}", FORMAT)
