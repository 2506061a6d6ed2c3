"""The main job, end to end: train, compress, tune, compile, package, deploy, measure, for two boards in one run."""

import json
import re

import pytest
from command_line import lacking

RECIPE = """\
edgepack: 1
name: end-to-end
version: 1.2.0
model:
  source: edgepack.zoo.digits:network
  train:
    epochs: 6
    lr: 0.002
  inputs:
    - {name: image, shape: [1, 1, 8, 8]}
data:
  source: edgepack.zoo.digits:splits
compress:
  - method: prune-channels
    ratio: 0.5
    fine_tune: {epochs: 4}
  - method: quantize-static
    samples: 64
tune:
  trials: 8
bench:
  runs: 10
  warmup: 2
  accuracy_samples: 90
gates:
  accuracy_drop: 0.1
  p90_ms: 1000
targets:
  - target: x86-64-v3
    device: virtual:host
  - target: rpi4
    device: virtual:rpi4
    tune: {trials: 4}
"""
TARGETS = ("x86-64-v3", "rpi4")


@pytest.fixture(scope="module")
def cli(module_cli):
    lacking("sshd", "qemu-aarch64-static")
    module_cli.write("recipe.yaml", RECIPE)
    return module_cli


@pytest.fixture(scope="module")
def first(cli):
    done = cli("run", "recipe.yaml", "--json")
    assert done.code == 0, done.err
    return done


@pytest.fixture(scope="module")
def second(cli, first):
    done = cli("run", "recipe.yaml", "--json")
    assert done.code == 0, done.err
    return done


def rows(report):
    return {(row["target"], row["candidate"]): row for row in report["rows"]}


def statuses(report):
    return {(s["stage"], s["target"], s["candidate"]): s["status"] for s in report["stages"]}


def test_every_station_was_passed_on_both_boards(first):
    found = statuses(first.json)
    for target in TARGETS:
        for candidate in ("baseline", "release"):
            for stage in ("tune", "compile", "package", "bench"):
                assert found[stage, target, candidate] == "done"
        assert found["deploy", target, "release"] == "done"


def test_the_table_has_every_figure(first):
    for row in rows(first.json).values():
        sizes = ("onnx_size", "compiled_size", "weights_size", "weights_memory", "bundle_size")
        for figure in (*sizes, "parameters", "macs"):
            assert row[figure] > 0
        for accuracy in ("score_torch", "score_onnxruntime", "score_board"):
            assert 0.8 < row[accuracy]["value"] <= 1
        measured = row["measurement"]
        assert len(measured["samples_ns"]) >= 10
        assert measured["peak_rss_kib"] > 100
        assert measured["load_ms"] > 0
        assert row["board_samples"] == 90
        assert row["missing"] == {}


def test_compression_shows(first):
    for target in TARGETS:
        before, after = (rows(first.json)[target, candidate] for candidate in ("baseline", "release"))
        assert after["parameters"] < before["parameters"] / 2
        assert after["macs"] < before["macs"] / 2
        assert after["onnx_size"] < before["onnx_size"] / 4
        assert after["bundle_size"] < before["bundle_size"]
        assert after["weights_size"] < before["weights_size"] / 4


def test_the_board_answers_as_onnxruntime_does(first):
    for (_, candidate), row in rows(first.json).items():
        # int8 kernels round ties their own way, which may move an activation by one step.
        assert row["parity"] < (1e-4 if candidate == "baseline" else 0.1)


def test_emulated_latency_is_labelled_and_never_gated(first):
    report = first.json
    assert {target for (target, _), row in rows(report).items() if row["emulated"]} == {"rpi4"}
    gates = {(gate["name"], gate["target"]): gate["status"] for gate in report["gates"]}
    assert gates["p90_ms", "rpi4"] == "skipped"
    assert gates["p90_ms", "x86-64-v3"] == "passed"
    assert gates["accuracy_drop", "rpi4"] == "passed"


def test_a_second_run_is_answered_from_the_store(second):
    found = statuses(second.json)
    again = {key for key, status in found.items() if status == "done"}
    assert again == {("deploy", target, "release") for target in TARGETS}
    assert "failed" not in found.values()


def test_a_second_run_reports_the_same_figures(first, second):
    assert rows(second.json) == rows(first.json)


def test_a_change_is_named_where_a_stage_runs_again(cli, second):
    cli.write("changed.yaml", RECIPE.replace("runs: 10", "runs: 12").replace("samples: 64", "samples: 65"))
    report = cli("run", "changed.yaml", "--json", "-t", "x86-64-v3").json
    why = {(s["stage"], s["candidate"]): s["why"] for s in report["stages"] if s["status"] == "done"}
    assert "step.samples 64 → 65" in why["quantize-static", None]
    assert "bench.runs 10 → 12" in why["bench", "baseline"]
    assert ("train", None) not in why


def test_fresh_runs_a_stage_again(cli, second):
    report = cli("run", "recipe.yaml", "--json", "-t", "x86-64-v3", "--fresh", "evaluate").json
    done = {s["stage"]: s["why"] for s in report["stages"] if s["status"] == "done"}
    assert done["evaluate"] == "requested by --fresh"
    assert "compile" not in done


def test_the_report_opens_again(cli, second):
    run_id = second.json["run_id"]
    again = cli("report", run_id, "--json")
    assert again.json == second.json
    folder = cli.home / "data/edgepack/runs" / run_id
    assert {path.name for path in folder.iterdir()} == {
        "report.json",
        "report.md",
        "report.html",
        *(f"end-to-end-1.2.0-{target}.edgepack" for target in ("x86-64-v3", "rpi4")),
    }
    page = (folder / "report.html").read_text()
    assert "emulated" in page
    assert not re.search(r'(src|href)="https?://', page)
    text = cli("report", run_id)
    assert text.code == 0
    assert "Accuracy" in text.out
    assert cli("report", "20010101-000000").code == 2


def test_a_failed_gate_exits_with_3(cli, second):
    cli.write("gated.yaml", RECIPE.replace("p90_ms: 1000", "bundle_kib: 1"))
    done = cli("run", "gated.yaml", "--json", "-t", "x86-64-v3")
    assert done.code == 3
    (failed,) = (gate for gate in done.json["gates"] if gate["status"] == "failed")
    assert failed["name"] == "bundle_kib"


def test_boards_of_a_run_are_gone_after_it(cli, second):
    assert json.loads(cli("devices", "list", "--json").out)["devices"] == []


def test_the_release_runs_on_a_board_that_stays_and_rolls_back(cli, second):
    assert cli("package", "recipe.yaml", "-t", "x86-64-v3", "-o", "out").code == 0
    bundle = cli.folder / "out" / "end-to-end-1.2.0-x86-64-v3.edgepack"
    cli.write("next.yaml", RECIPE.replace("version: 1.2.0", "version: 1.3.0"))
    assert cli("package", "next.yaml", "-t", "x86-64-v3", "-o", "out").code == 0
    assert cli("devices", "up", "--virtual", "host", "--name", "kept").code == 0
    try:
        first = cli("deploy", bundle, "kept", "--json").json
        assert first["changed"]
        assert not cli("deploy", bundle, "kept", "--json").json["changed"]
        assert cli("rollback", "end-to-end", "kept").code == 5
        newer = cli("deploy", str(bundle).replace("1.2.0", "1.3.0"), "kept", "--json").json
        assert newer["digest"] != first["digest"]
        assert newer["bytes_sent"] < first["bytes_sent"] / 2
        back = cli("rollback", "end-to-end", "kept", "--json").json
        assert back["digest"] == first["digest"]
        info = cli("devices", "info", "kept", "--json").json
        current = [r["digest"] for r in info["releases"]["end-to-end"] if r["current"]]
        assert current == [first["digest"]]
        assert info["arch"] == "x86_64"
        measured = cli("bench", bundle, "kept", "--runs", "5", "--json").json
        assert len(measured["samples_ns"]) >= 5
    finally:
        assert cli("devices", "down", "kept", "--purge").code == 0
    assert cli("devices", "list").out == ""


def test_without_a_baseline_on_the_board_it_is_still_known_on_the_host(cli, second):
    cli.write("alone.yaml", RECIPE.replace("runs: 10", "runs: 10\n  baseline: false"))
    report = cli("run", "alone.yaml", "--json", "-t", "x86-64-v3").json
    before = rows(report)["x86-64-v3", "baseline"]
    assert before["score_torch"] == rows(second.json)["x86-64-v3", "baseline"]["score_torch"]
    assert before["measurement"] is None
    assert "bench.baseline" in before["missing"]["measurement"]


def test_a_bundle_shows_and_checks_itself(cli, second):
    assert cli("package", "recipe.yaml", "-t", "rpi4", "-o", "out").code == 0
    bundle = "out/end-to-end-1.2.0-rpi4.edgepack"
    shown = cli("bundle", "inspect", bundle, "--json").json
    assert shown["target"]["abi"] == {"arch": "aarch64", "libc": "2.31"}
    assert [figures["stage"] for figures in shown["compression"]] == [
        "source",
        "prune-channels",
        "quantize-static",
    ]
    in_words = cli("bundle", "inspect", bundle).out
    assert shown["constants"]
    assert all(f"weights  {c['count']} {c['encoding']}, " in in_words for c in shown["constants"])
    assert cli("bundle", "verify", bundle).code == 0
    assert cli("bundle", "extract", bundle, "unpacked").code == 0
    assert (cli.folder / "unpacked/bin/edgepack-agent").stat().st_mode & 0o111
    assert (cli.folder / "unpacked/examples/infer.py").is_file()


def test_compile_says_what_it_made_in_words_and_as_a_document(cli, second):
    document = cli("compile", "recipe.yaml", "--target", "x86-64-v3", "--json").json
    assert document["edgepack"] == 1
    assert document["inputs"] == [{"name": "image", "shape": [1, 1, 8, 8], "dtype": "float32"}]
    weights = {(c["encoding"], c["decoded"]): c for c in document["constants"]}
    int8, decoded = weights["int8", "kernel"], weights["int8", "load"]
    assert int8["stored_bytes"] <= int8["raw_bytes"] == int8["resident_bytes"]
    assert decoded["stored_bytes"] <= decoded["raw_bytes"] < decoded["resident_bytes"] / 3
    assert document["weights"] == document["path"] + ".weights"
    assert sum(kernel["calls"] for kernel in document["kernels"]) > 0
    said = cli("compile", "recipe.yaml", "--target", "x86-64-v3").out
    assert f"weights: {int8['count']} int8, " in said
    assert "decoded in the kernels" in said
    assert said.startswith(document["path"])
