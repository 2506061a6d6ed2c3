"""Runs on disk: written atomically, found by each kind of name."""

import pytest

from edgepack import api
from edgepack.errors import InputError
from edgepack.pipeline.trace import Host, RecipeRef
from edgepack.reporting import saved
from edgepack.reporting.builder import ReportBuilder

HOST = Host(system="Linux", machine="x86_64", cores=2, python="3.11")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


def save(run_id):
    recipe = RecipeRef(name="digits", version="1.0.0", digest="0")
    started = "2026-01-01T00:00:00+00:00"
    report = ReportBuilder(run_id=run_id, recipe=recipe, started=started, tools={}, host=HOST).build()
    saved.save(report)
    return report


def test_a_run_is_found_by_id_folder_file_and_as_the_latest(tmp_path):
    old, new = save("20260101-000000-000-digits-1"), save("20260102-000000-000-digits-1")
    folder = saved.folder_of(old)
    assert {path.name for path in folder.iterdir()} == {"report.json", "report.md", "report.html"}
    assert api.report() == new
    for name in (old.run_id, str(folder), str(folder / "report.json")):
        assert api.report(name) == old


def test_a_run_without_a_report_is_none(tmp_path):
    kept = save("20260101-000000-000-digits-1")
    (saved.runs_dir() / "20260102-000000-000-digits-1").mkdir()
    assert api.report() == kept


def test_what_is_no_run_is_named_with_the_near_miss():
    with pytest.raises(InputError) as caught:
        api.report()
    assert "edgepack run RECIPE" in caught.value.render()
    save("20260101-000000-000-digits-1")
    with pytest.raises(InputError) as caught:
        api.report("20260101-000000-000-digits-2")
    assert "did you mean 20260101-000000-000-digits-1?" in caught.value.render()
    with pytest.raises(InputError) as caught:
        api.report("zzz")
    assert "the latest is" in caught.value.render()
