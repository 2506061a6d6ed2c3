"""Runs of several groups, and the command line."""

import json
from dataclasses import replace

import pytest
from peers_setup import QUICK, doubling, quick

from benchmarks.kit import places
from benchmarks.peers import __main__ as command
from benchmarks.peers import campaign
from benchmarks.peers.results import load_groups
from edgepack.errors import EdgepackError, UsageError


@pytest.fixture
def net(tmp_path, monkeypatch):
    made = doubling(tmp_path / "net")
    monkeypatch.setattr(campaign, "artifacts", lambda name: _of(made, name))
    return made


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "CACHE", tmp_path / "cache")
    return quick()


def run(settings, tmp_path, wanted, *, minutes=10, names=("right",)):
    return campaign.run(settings, wanted, list(names), tmp_path / "results", minutes=minutes)


def _of(net, name):
    if name == "broken":
        raise EdgepackError("the net cannot be exported", where=name)
    return replace(net, net=name)


def test_groups_are_measured_in_breadth_saved_and_completed_in_parts(settings, net, tmp_path):
    wanted = campaign.cells(["one", "two"], ["fp32", "int8"], [1])
    assert [cell.key for cell in wanted] == ["one-fp32-1t", "two-fp32-1t", "one-int8-1t", "two-int8-1t"]
    plan = replace(QUICK, seconds=5.0)
    settings = replace(settings, plan=plan)
    assert run(settings, tmp_path, wanted[:1]) == {}
    kept = tmp_path / "results" / "a-cpu" / "one-fp32-1t.json"
    first = kept.read_bytes()
    assert run(settings, tmp_path, wanted[1:2]) == {}
    assert kept.read_bytes() == first
    assert [group.cell.key for group in load_groups(kept.parent)] == ["one-fp32-1t", "two-fp32-1t"]
    run(settings, tmp_path, wanted[:1])
    assert kept.read_bytes() != first
    first = kept.read_bytes()
    other = replace(settings, machine={**settings.machine, "kind": "another"})
    assert run(other, tmp_path, wanted[:1]) == {}
    assert kept.read_bytes() == first, "another kind of CPU has a folder of its own"
    assert (tmp_path / "results" / "another" / "one-fp32-1t.json").is_file()


def test_what_does_not_fit_is_named_with_the_command_for_it(settings, net, tmp_path):
    words = []
    settings = replace(settings, plan=replace(QUICK, seconds=600.0), say=words.append)
    wanted = campaign.cells(["one", "broken"], ["fp32"], [1])
    left = run(settings, tmp_path, wanted, minutes=1)
    assert [cell.key for cell in left] == ["one-fp32-1t", "broken-fp32-1t"]
    assert all("minutes were left" in reason for reason in left.values())
    assert (
        words[0]
        == "2 groups, about 20 minutes of measuring; 0 fit into 1 minutes once everything is prepared"
    )
    assert words[1].startswith("2 of 2 preparations are not done yet; each may take up to 1 ")
    assert campaign.command_for(left, ["right"]) == (
        "python -m benchmarks.peers --nets one,broken --precisions fp32 --threads 1 --peers right --missing"
    )
    left = run(replace(settings, plan=replace(QUICK, seconds=1.0)), tmp_path, wanted)
    told = [(cell.key, "cannot be exported" in reason) for cell, reason in left.items()]
    assert told == [("broken-fp32-1t", True)]


def test_preparing_alone_leaves_less_to_do(settings, net, tmp_path):
    words = []
    settings = replace(settings, say=words.append)
    wanted = campaign.cells(["one", "broken"], ["fp32"], [1])
    left = campaign.prepare(settings, wanted, ["right"], minutes=5)
    assert [cell.key for cell in left] == ["broken-fp32-1t"]
    assert not (tmp_path / "results").exists()
    words.clear()
    run(settings, tmp_path, wanted[:1])
    assert not any("preparations" in line for line in words)
    (group,) = load_groups(tmp_path / "results" / "a-cpu")
    assert group.entries["right"].prepared_before
    left = campaign.prepare(settings, wanted, ["right"], minutes=0)
    assert list(left.values()) == ["the 0 minutes were used up"] * 2


def test_a_group_does_not_lose_contestants_by_accident(settings, net, tmp_path):
    wanted = campaign.cells(["one"], ["fp32"], [1])
    run(replace(settings, plan=replace(QUICK, seconds=1.0)), tmp_path, wanted, names=("right", "raising"))
    results = tmp_path / "results" / "a-cpu"
    with pytest.raises(UsageError, match="raising would be lost"):
        campaign.refuse_to_drop(results, wanted, ["right"])
    campaign.refuse_to_drop(results, wanted, ["right", "raising", "wrong"])
    campaign.refuse_to_drop(results, campaign.cells(["two"], ["fp32"], [1]), ["right"])


def test_preparing_some_contestants_costs_the_others_nothing(settings, net, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "summary", lambda: settings.machine)
    campaign.run(
        settings,
        campaign.cells(["ds_cnn"], ["fp32"], [1]),
        ["right"],
        tmp_path / "results" / "peers",
        minutes=10,
    )
    asked = []
    monkeypatch.setattr(campaign, "prepare", lambda *given, **_: asked.append(given[2]) or {})
    argv = ["--nets=ds_cnn", "--peers=ncnn", "--precisions=fp32", "--threads=1", f"--out={tmp_path}"]
    assert command.main(["--prepare", *argv]) == 0
    assert asked == [["ncnn"]]
    assert command.main(argv) == 2
    assert "the results of right would be lost" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--nets", "resnet"], "unknown nets: resnet"),
        (["--peers", "tensorflow"], "unknown peers: tensorflow"),
        (["--precisions", "fp64"], "unknown precisions: fp64"),
        (["--threads", "99"], "unknown threads: 99"),
        (["--threads", "one"], "unknown threads: one"),
    ],
)
def test_mistakes_are_told_without_a_traceback(argv, words, tmp_path, capsys):
    assert command.main([*argv, "--out", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert "next:" in shown


@pytest.mark.parametrize(
    "argv", [["--minutes", "0"], ["--rounds", "-1"], ["--trials", "x"], ["--minutes", "inf"]]
)
def test_numbers_that_make_no_sense_are_refused(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(argv)
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_a_damaged_result_is_named(tmp_path, capsys):
    folder = tmp_path / "results" / "peers" / "a-cpu"
    folder.mkdir(parents=True)
    (folder / "one-fp32-1t.json").write_text(json.dumps({"kind": "other"}))
    assert command.main(["--report", "--out", str(tmp_path)]) == 2
    assert "one-fp32-1t.json" in capsys.readouterr().err
