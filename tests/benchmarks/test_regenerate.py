"""All files generated from committed results are reproduced byte for byte."""

import json
import shutil

import pytest

from benchmarks.arm import __main__ as arm
from benchmarks.compression import __main__ as compression
from benchmarks.coverage import __main__ as coverage
from benchmarks.coverage import results as cases
from benchmarks.deploy import __main__ as deploy
from benchmarks.kit import documents, machine, places
from benchmarks.kit.places import RESULTS, ROOT
from benchmarks.peers import __main__ as peers
from benchmarks.peers.results import kinds, load_groups
from benchmarks.tuning import __main__ as tuning


def files(folder):
    """Return names and contents."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


KIND = "amd-epyc-znver4-avx512-vnni"  # of the CPU that was measured first
PEERS = RESULTS / "results" / "peers"


def _folder(name):
    """Return the folder of a benchmark's results; predictions for ARM do not depend on the machine."""
    return RESULTS / "results" / name / ("" if name == "arm" else KIND)


def test_the_pages_of_peers_and_their_charts(tmp_path, monkeypatch):
    shutil.copytree(PEERS, tmp_path / "results" / "peers", ignore=shutil.ignore_patterns("*.svg", "*.md"))
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs/performance.md", tmp_path / "docs")
    monkeypatch.setattr(places, "ROOT", tmp_path)
    monkeypatch.setattr(places, "RESULTS", tmp_path)
    assert peers.main(["--page"]) == 0
    assert (tmp_path / "RESULTS.md").read_bytes() == (RESULTS / "RESULTS.md").read_bytes()
    assert (tmp_path / "docs/performance.md").read_bytes() == (ROOT / "docs/performance.md").read_bytes()
    found = kinds(PEERS)
    assert KIND in found
    for kind in found:
        assert files(tmp_path / "results" / "peers" / kind) == files(PEERS / kind)


def test_the_results_of_peers(tmp_path):
    for kind in kinds(PEERS):
        groups = load_groups(PEERS / kind)
        assert {group.cell.key for group in groups} == {path.stem for path in (PEERS / kind).glob("*.json")}
        for group in groups:
            path = group.save_in(tmp_path)
            assert path.parent.name == kind
            assert path.read_bytes() == (PEERS / kind / path.name).read_bytes()


@pytest.mark.parametrize(
    ("command", "name", "made"),
    [
        (arm, "arm", {"arm.md"}),
        (deploy, "deploy", {"deploy.md"}),
        (tuning, "tuning", {"tuning.md", "tuning-minutes.svg", "tuning-phases.svg", "tuning-trials.svg"}),
    ],
    ids=["arm", "deploy", "tuning"],
)
def test_pages_beside_their_results(tmp_path, command, name, made):
    committed = _folder(name)
    shutil.copy(committed / f"{name}.json", tmp_path)
    assert not command.main(["--page", "--out", str(tmp_path)])
    assert files(tmp_path) == files(committed)
    assert set(files(tmp_path)) == {*made, f"{name}.json"}


@pytest.mark.parametrize(("command", "name"), [(deploy, "deploy"), (tuning, "tuning")])
def test_pages_are_written_anew_for_every_kind_of_cpu(tmp_path, monkeypatch, command, name):
    monkeypatch.setattr(places, "RESULTS", tmp_path)
    for kind in ("one", "two"):
        (tmp_path / "results" / name / kind).mkdir(parents=True)
        shutil.copy(_folder(name) / f"{name}.json", tmp_path / "results" / name / kind)
    assert not command.main(["--page"])
    for kind in ("one", "two"):
        assert files(tmp_path / "results" / name / kind) == files(_folder(name))
    assert machine.results(name, None, written=False) == [
        tmp_path / "results" / name / machine.summary()["kind"]
    ]


@pytest.mark.parametrize(("name", "indent"), [("arm", 1), ("deploy", 1), ("tuning", None)])
def test_documents_are_written_as_they_were_read(tmp_path, name, indent):
    committed = _folder(name) / f"{name}.json"
    documents.write(tmp_path / "again.json", documents.read(committed), indent=indent)
    assert (tmp_path / "again.json").read_bytes() == committed.read_bytes()


def test_the_page_of_coverage(tmp_path):
    assert coverage.main(["--page", "--out", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_bytes() == (ROOT / "docs/onnx-coverage.md").read_bytes()
    committed = RESULTS / "coverage/RESULTS.json"
    cases.write(tmp_path / "again.json", cases.read(committed, "none"))
    assert (tmp_path / "again.json").read_bytes() == committed.read_bytes()


def test_the_page_of_compression(tmp_path, monkeypatch):
    committed = RESULTS / "results" / "compression"
    shutil.copytree(committed, tmp_path / "results" / "compression", ignore=shutil.ignore_patterns("*.svg"))
    monkeypatch.setattr(places, "ROOT", tmp_path)
    monkeypatch.setattr(places, "RESULTS", tmp_path)
    compression.main(["--page"])
    assert files(tmp_path / "results" / "compression") == files(committed)
    assert (tmp_path / "docs/compression.md").read_bytes() == (ROOT / "docs/compression.md").read_bytes()


def test_the_documented_deploys_are_those_of_the_results():
    """docs/performance.md repeats the page."""
    assert (_folder("deploy") / "deploy.md").read_text().strip() in (ROOT / "docs/performance.md").read_text()


@pytest.mark.parametrize("command", [arm, deploy, tuning], ids=["arm", "deploy", "tuning"])
def test_without_results_there_is_no_page(tmp_path, command, capsys):
    ended = command.command.finish(lambda: command.main(["--page", "--out", str(tmp_path)]))
    assert ended == 2
    assert "run without --page first" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_damaged_document_is_named(tmp_path):
    (tmp_path / "arm.json").write_text(json.dumps({"cells": []})[:-1])
    with pytest.raises(documents.InputError, match="not a JSON document"):
        arm.main(["--page", "--out", str(tmp_path)])
