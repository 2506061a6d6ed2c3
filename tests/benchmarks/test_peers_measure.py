"""A whole group with contestants of every behaviour, in real processes."""

import importlib
import linecache
import os
import sys
import time
from dataclasses import replace

import numpy as np
import peers_fakes
import psutil
import pytest
from peers_setup import CORES, QUICK, doubling, quick

from benchmarks.kit import places
from benchmarks.peers.measure import GroupRun
from benchmarks.peers.results import Cell, kinds, load_groups


@pytest.fixture
def net(tmp_path):
    return doubling(tmp_path / "net")


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "CACHE", tmp_path / "cache")
    return quick()


def measured(settings, net, names, precision="fp32", threads=1):
    run = GroupRun(settings, net, names, Cell(net.net, precision, threads))
    run.prepare(time.monotonic() + 60)
    return run.measure()


def children():
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_every_behaviour_is_a_result(settings, net):
    names = [
        name
        for name, contestant in peers_fakes.CONTESTANTS.items()
        if not isinstance(contestant, (peers_fakes.Hanging, peers_fakes.Exact))
    ]
    affinity, before = os.sched_getaffinity(0), children()
    group = measured(settings, net, names)
    assert children() <= before, "a worker was left behind"
    assert os.sched_getaffinity(0) == affinity
    status = {name: entry.status for name, entry in group.entries.items()}
    assert status == {
        "right": "measured",
        "shared": "measured",
        "wrong": "wrong",
        "fp32_only": "measured",
        "refusing": "unsupported",
        "raising": "failed",
        "crashing": "failed",
        "breaking": "failed",
        "own_cold": "measured",
    }
    entries = group.entries
    assert entries["wrong"].reason == "relative error 1.67e-01, above 1e-03"
    assert entries["refusing"].reason == "no operator for double"
    assert entries["raising"].reason == "RuntimeError: a converter's last words"
    assert entries["raising"].phase == "prepare"
    assert "died of SIGABRT" in entries["crashing"].reason
    assert "the heap is gone" in entries["crashing"].reason
    assert entries["crashing"].phase == "load"
    assert "exited with status 3" in entries["breaking"].reason
    assert entries["breaking"].phase in {"warm-up", "time"}
    for name in ("right", "shared", "fp32_only", "own_cold"):
        entry = entries[name]
        assert entry.relative_error == 0
        assert entry.model_bytes == 3
        assert entry.runtime_bytes == 0
        assert len(entry.cold) == 2
        rounds = group.kept(name)
        assert len(rounds) == QUICK.rounds
        assert all(sample > 0 for samples in rounds.values() for sample in samples)
    assert entries["own_cold"].cold[0].start_ns == 5
    cold = entries["right"].cold[0]
    assert 0 < cold.load_ns < cold.start_ns
    assert 0 < cold.ready_ns < cold.start_ns
    assert cold.peak_rss_kib > 1000
    assert not any(block.contestant in {"wrong", "crashing"} for block in group.blocks)


def test_a_document_comes_back_as_it_was(settings, net, tmp_path):
    group = measured(settings, net, ["right", "raising"])
    path = group.save_in(tmp_path / "results")
    assert path == tmp_path / "results" / "a-cpu" / "double-fp32-1t.json"
    assert kinds(tmp_path / "results") == ["a-cpu"]
    assert load_groups(tmp_path / "results" / "a-cpu") == [group]
    longest = max(path.read_text().splitlines(), key=len)
    assert '"samples_ns": [' in longest, "samples stand on one line"


def test_what_was_prepared_is_used_again_until_something_changes(settings, net):
    def prepare(name, settings=settings, precision="fp32", threads=1):
        """Number of preparations in this folder so far."""
        run = GroupRun(settings, net, [name], Cell(net.net, precision, threads))
        run.prepare(time.monotonic() + 60)
        folder = f"double-{precision}" + ("" if name == "shared" else f"-{threads}t")
        return len((places.CACHE / "prepared" / name / folder / "prepared-times.txt").read_text())

    assert [prepare("right"), prepare("right")] == [1, 1]
    if len(CORES) > 1:
        assert prepare("right", threads=2) == 1
        assert [prepare("shared"), prepare("shared", threads=2)] == [1, 1]
    assert prepare("right", replace(settings, fresh=True)) == 2
    assert prepare("right", replace(settings, trials=7)) == 3
    (places.CACHE / "prepared" / "right" / "double-fp32-1t" / "model.txt").unlink()
    assert prepare("right", replace(settings, trials=7)) == 4
    np.savez(net.calibration, x=np.ones((2, 1, 3), np.float32))
    assert prepare("right", replace(settings, trials=7)) == 5


def test_a_change_of_what_a_contestant_takes_from_another_prepares_anew(settings, net, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "kin"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "parent.py").write_text("def title():\n    return 'one'\n")
    (package / "child.py").write_text(
        "from peers_fakes import Right\n"
        "from kin.parent import title\n\n\n"
        "class Child(Right):\n    title = title()\n\n\n"
        "CONTESTANTS = {'child': Child()}\n"
    )

    def prepare():
        """Number of preparations so far."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "kin"]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        linecache.clearcache()
        found = importlib.import_module("kin.child").CONTESTANTS
        registry = replace(settings.registry, reference="kin.child:CONTESTANTS", contestants=found)
        registry = replace(registry, paths=(*registry.paths, tmp_path))
        run = GroupRun(replace(settings, registry=registry), net, ["child"], Cell(net.net, "fp32", 1))
        run.prepare(time.monotonic() + 60)
        folder = places.CACHE / "prepared" / "child" / "double-fp32-1t"
        return len((folder / "prepared-times.txt").read_text())

    assert [prepare(), prepare()] == [1, 1]
    (package / "parent.py").write_text("def title():\n    return 'another'\n")
    assert [prepare(), prepare()] == [2, 2]


def test_a_contestant_without_the_precision_is_not_asked(settings, net):
    group = measured(settings, net, ["fp32_only"], "int8")
    assert (group.entries["fp32_only"].status, group.entries["fp32_only"].reason) == (
        "unsupported",
        "has no int8 path",
    )
    assert not group.blocks
    group = measured(settings, net, ["fp32_only", "int8_mode"])
    assert set(group.entries) == {"fp32_only"}, (
        "another mode of a contestant is not listed where it has no path"
    )


def test_int8_is_held_to_what_the_quantized_model_computes_exactly(settings, net):
    """The quantized models compute y = 2 x + 0.01, but for the last, which is an ONNX file of y = 2 x."""
    group = measured(settings, net, ["right", "exact", "saturating", "exact_onnx"], "int8")
    found = {name: entry.exactness for name, entry in group.entries.items()}
    assert all(entry.status == "measured" for entry in group.entries.values())
    assert found["right"] is None
    assert found["exact"].difference == 0
    assert found["exact"].quantization == pytest.approx(
        0.01 / 6, rel=1e-3
    )  # of a sample whose largest value is 6
    assert found["exact"].exact
    assert found["saturating"].difference == pytest.approx(0.09 / 6.01, rel=1e-3)
    assert not found["saturating"].exact
    assert found["exact_onnx"].quantization == 0, "edgepack's reference computes the ONNX file"
    assert not found["exact_onnx"].exact
    assert [(one.samples, one.top1) for one in found.values() if one] == [(2, 2)] * 3
    assert measured(settings, net, ["exact"]).entries["exact"].exactness is None, "fp32 is held to fp32"


def test_a_restless_machine_leaves_cells_without_a_time_and_says_why(settings, net):
    readings = iter(range(1000, 10**9, 500))
    plan = replace(QUICK, rounds=1, drift=0.03, retakes=1, seconds=5, patience=0.2, settling=1)
    group = measured(replace(settings, plan=plan, canary=lambda: next(readings)), net, ["right"])
    assert group.entries["right"].status == "failed"
    assert "too busy" in group.entries["right"].reason
    assert any("given up after 2 tries" in note for note in group.notes)
    assert all(block.discarded for block in group.blocks)


def test_notes_hold_no_path_of_this_machine(settings, net):
    group = measured(settings, net, ["right"])
    assert group.entries["right"].notes["place"] == "CACHE/prepared/right/double-fp32-1t"
