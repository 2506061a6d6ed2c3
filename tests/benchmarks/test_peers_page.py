"""RESULTS.md and the charts, from synthetic groups."""

import xml.etree.ElementTree as ET

import pytest

from benchmarks.kit.correctness import Exactness
from benchmarks.kit.documents import markdown
from benchmarks.kit.interleaving import TimedBlock, TimingPlan
from benchmarks.peers.charts import ratios
from benchmarks.peers.measure import tidy
from benchmarks.peers.page import method, page
from benchmarks.peers.protocol import Cold
from benchmarks.peers.ranking import losses, rank
from benchmarks.peers.report import write_report
from benchmarks.peers.results import ContestantResult, Group, Roofline


def entry(title, **more):
    return ContestantResult(
        **{
            "title": title,
            "status": "measured",
            "relative_error": 1e-6,
            "cosine": 0.9999,
            "sqnr_db": 100.0,
            "model_bytes": 1000,
            "runtime_bytes": 2_000_000,
            "load_ns": 5_000_000,
            "call_ns": 50.0,
            "warm_inferences": 10,
            "warm_stable": True,
            "cold": (Cold(start_ns=30_000_000, load_ns=20_000_000, ready_ns=1_000_000, peak_rss_kib=1000),)
            * 3,
            **more,
        }
    )


MACHINE = {
    "cpu": "a cpu",
    "core": "a core",
    "cores": 2,
    "virtual": True,
    "memory_gib": 8.0,
    "system": "Linux 6",
}


def group(medians, net="resnet18", threads=1, precision="fp32", **more):
    """Medians in ms, by contestant; five rounds of two blocks, one sample apart."""
    blocks = [
        TimedBlock(
            contestant=name,
            round=number,
            position=position,
            discarded="canary +9.0%" if (number, position) == (0, 0) else None,
            canary_before_ns=(3_000_000,),
            canary_after_ns=(3_000_000,),
            samples_ns=tuple(round(ms * 1e6) + step for step in (-1000, 0, 1000 * number)),
        )
        for number in range(5)
        for name, ms in medians.items()
        for position in (0, 1)
    ]
    fields = {
        "net": net,
        "title": {"resnet18": "ResNet-18", "vgg16": "VGG-16"}[net],
        "precision": precision,
        "threads": threads,
        "when": "2026-11-22T10:00:00+00:00",
        "seconds": 60.0,
        "command": "make bench",
        "commit": "abc",
        "seed": 0,
        "machine": {**MACHINE, "kind": "a-cpu"},
        "plan": vars(TimingPlan()),
        "limits": {
            name: {"peak": 100.0, "unit": unit, "kernel": kernel}
            for name, unit, kernel in (
                ("fp32", "GFLOP/s", "fma_32_8"),
                ("int8", "GOP/s", "madd_32_8"),
                ("read", "GB/s", "read_all"),
                ("triad", "GB/s", "triad"),
            )
        },
        "roofline": Roofline(
            macs=10**9,
            bytes=10**6,
            peak_gops=100.0,
            bandwidth_gbs=10.0,
            cache_bytes=0,
            ns=2e6,
            bound="compute",
        ),
        "canary_references_ns": ((3_000_000,),),
        "notes": (),
        "entries": {name: entry(name.title()) for name in medians},
        "blocks": tuple(blocks),
    }
    return Group(**{**fields, **more})


def test_order_is_by_ratio_where_rounds_differ():
    """By medians alone, the contestant that took part while the machine was fast would be first."""
    fast, slow = group({"edgepack": 4.0, "early": 2.0}), group({"edgepack": 8.0, "late": 3.0})
    late = tuple(block.model_copy(update={"round": block.round + 5}) for block in slow.blocks)
    both = {"blocks": fast.blocks + late, "entries": {**fast.entries, **slow.entries}}
    one = rank(fast.model_copy(update=both))
    assert [standing.name for standing in one.order] == ["late", "early", "edgepack"]
    assert one.best_peer.name == one.ahead[0].name == "late"


def test_figures_and_ratios_stand_in_the_table_the_fastest_first():
    one = rank(group({"edgepack": 4.0, "slow": 8.0, "fast": 2.0}))
    assert [standing.name for standing in one.order] == ["fast", "edgepack", "slow"]
    assert one.ours.to_ours.value == 1
    assert one.order[0].to_ours.value == pytest.approx(0.5, rel=1e-3)
    assert one.order[0].to_ours.decided
    assert one.order[0].roofline_share == pytest.approx(1.0, rel=1e-3)
    assert [standing.name for standing in one.ahead] == ["fast"]
    text = page("a-cpu", [one])
    rows = [
        line for line in text.splitlines() if line.startswith(("| Fast |", "| **Edgepack** |", "| Slow |"))
    ]
    assert [row.split(" | ")[0] for row in rows] == ["| Fast", "| **Edgepack**", "| Slow"]
    assert "2.00\u00a0ms" in rows[0]
    assert "30.0\u00a0ms" in rows[0]
    assert "| 1 |" in rows[1]
    assert "29 of 30 blocks kept" not in text
    assert "27 of 30 blocks kept" in text


def test_losses_are_sorted_by_size_and_what_is_even_is_none():
    even = group({"edgepack": 4.0, "even": 4.0}, threads=2)
    small = group({"edgepack": 4.0, "fast": 3.0})
    large = group({"edgepack": 4.0, "faster": 1.0, "fast": 3.0}, net="vgg16")
    found = losses([rank(one) for one in (even, small, large)])
    assert [one.group.net for one in found] == ["vgg16", "resnet18"]
    text = page("a-cpu", [rank(one) for one in (even, small, large)])
    part = text.partition("## Where edgepack is slower")[2].partition("## All cells")[0]
    assert part.index("VGG-16") < part.index("ResNet-18")
    assert "4.00\N{MULTIPLICATION SIGN}" in part
    assert "| Faster |" in part
    assert part.splitlines()[6].endswith("| Fast |")
    assert "| ResNet-18, fp32, 2 threads" not in part
    assert "No peer is significantly faster" in page("a-cpu", [rank(even)])


def test_cells_without_a_time_stand_in_their_table_and_in_the_list_of_reasons():
    entries = {
        "edgepack": ContestantResult(
            title="edgepack", status="unsupported", phase="prepare", reason="no LSTM"
        ),
        "fast": entry("Fast", cold=(), cold_reason="it | hung"),
        "bad": entry("Bad", status="wrong", phase="run", reason="cosine 0.1000, below 0.9", cosine=0.1),
        "gone": ContestantResult(title="Gone", status="failed", phase="environment", reason="pip\nsaid no"),
    }
    text = page(
        "a-cpu",
        [rank(group({"fast": 2.0}, entries=entries)), rank(group({"fast": 2.0}, entries=entries, threads=2))],
    )
    table_part = text.partition("## All cells")[2].partition("## Cells without")[0]
    assert "| edgepack | not supported: no LSTM |" in table_part
    assert "| Bad | wrong outputs: cosine 0.1000, below 0.9 |" in table_part
    assert "cos 0.1000" in table_part
    assert "| Gone | failed: pip |" in table_part
    reasons = text.partition("## Cells without a time")[2].partition("## The machine")[0]
    both = "ResNet-18, fp32, 1 thread; ResNet-18, fp32, 2 threads"
    assert f"| edgepack | {both} | not supported (prepare) | no LSTM |" in reasons
    assert f"| Gone | {both} | failed (environment) | pip said no |" in reasons
    assert f"| Fast | {both} | no cold start | it \\| hung |" in reasons
    assert "edgepack not supported" in text.partition("## edgepack's rank")[2]


def test_how_models_were_made_is_told():
    entries = {
        "edgepack": entry(
            "edgepack", prepare_seconds=61.0, notes={"quantization": "Q/DQ, run in fp32", "trials": 32}
        ),
        "fast": entry("Fast", notes={"share": 0.123456}),
    }
    text = page("a-cpu", [rank(group({"edgepack": 4.0, "fast": 2.0}, precision="int8", entries=entries))])
    assert "int8 quantization: edgepack: Q/DQ, run in fp32." in text
    assert "| edgepack | 1\u00a0min 01\u00a0s | quantization: Q/DQ, run in fp32; trials: 32 |" in text
    assert "| Fast | \N{EM DASH} | share: 0.1235 |" in text


def test_the_report_and_its_charts_are_files_and_old_charts_go(tmp_path):
    groups = [
        group({"edgepack": 4.0, "slow": 400.0, "fast": 2.0, "fastest": 0.01}),
        group({"slow": 1.0}, net="vgg16"),
        group({"slow": 1.0}, threads=2),
    ]
    folder = tmp_path / "results" / "peers" / "a-cpu"
    for one in groups:
        one.save_in(folder.parent)
    (folder / "old.svg").write_text("<svg/>")
    index = write_report(tmp_path).read_text()
    text = (folder / "peers.md").read_text()
    assert [one.name for one in folder.glob("*.svg")] == ["fp32-1t.svg"]
    assert "](fp32-1t.svg)" in text
    assert "fp32-2t.svg" not in text
    assert "(results/peers/a-cpu/peers.md)" in index
    root = ET.parse(folder / "fp32-1t.svg").getroot()  # noqa: S314 - our own
    words = "".join(root.itertext())
    assert "prefers-color-scheme: dark" in words
    for title in ("Slow", "Fast", "ResNet-18: edgepack 4.00", "VGG-16: edgepack has no time"):
        assert title in words
    bars = [
        part
        for part in root.iter("{http://www.w3.org/2000/svg}rect")
        if part.get("class") in {"faster", "slower"}
    ]
    assert [bar.get("class") for bar in bars] == ["faster", "faster", "slower"]
    assert all(0 < float(bar.get("width")) < 760 for bar in bars)
    assert write_report(tmp_path).read_text() == index
    assert (folder / "peers.md").read_text() == text


def test_kinds_of_cpu_have_pages_of_their_own(tmp_path):
    docs = tmp_path / "docs.md"
    docs.write_text("before\n<!-- peers -->\nold\n<!-- end -->\nafter\n")
    for kind, medians in (("one", {"edgepack": 4.0, "fast": 2.0}), ("two", {"edgepack": 2.0, "fast": 4.0})):
        for threads in (1, 2):
            made = group(medians, threads=threads, machine={**MACHINE, "kind": kind})
            made.save_in(tmp_path / "results" / "peers")
    index = write_report(tmp_path, docs).read_text()
    assert (
        index.index("## one")
        < index.index("2 of 2; Fast")
        < index.index("## two")
        < index.index("1 of 2; Fast")
    )
    assert "2 of 2" not in (tmp_path / "results/peers/two/peers.md").read_text()
    before, _, rest = docs.read_text().partition("<!-- peers -->")
    listed, _, after = rest.partition("<!-- end -->")
    assert (before, after) == ("before\n", "\nafter\n")
    assert listed.index("**one**") < listed.index("2.00\u00d7") < listed.index("**two**")
    assert "2 threads" not in listed
    assert "No peer is significantly faster" in listed


def test_inexact_int8_keeps_its_time_and_is_marked():
    entries = {
        "edgepack": entry("edgepack", exactness=Exactness(32, 31, 0.01, 0.02)),
        "fast": entry("Fast", exactness=Exactness(32, 19, 0.35, 0.24)),
        "blind": entry("Blind"),
        "odd": entry("Odd", exactness=Exactness(4, 0, None, 0.24)),
    }
    medians = {"edgepack": 4.0, "fast": 2.0, "blind": 8.0, "odd": 9.0}
    one = rank(group(medians, precision="int8", entries=entries))
    text = page("a-cpu", [one])
    rows = {line.split(" | ")[0][2:]: line.split(" | ") for line in text.splitlines() if "SQNR" in line}
    column = next(line for line in text.splitlines() if line.startswith("| contestant | median")).split(" | ")
    found = {
        name: row[column.index("difference from exact (quantization error), top-1")]
        for name, row in rows.items()
    }
    assert found == {
        "Fast (inexact)": "3.5e-01 (2.4e-01), 19/32",
        "**edgepack**": "1.0e-02 (2.0e-02), 31/32",
        "Blind": "fp32 alone",
        "Odd (inexact)": "not finite (2.4e-01), 0/4",
    }
    assert "2.00\u00a0ms" in rows["Fast (inexact)"][1]
    assert "2 of 4; Fast (inexact)" in text
    assert "| Fast (inexact) |" in text.partition("## All cells")[0], "among the losses, too"
    assert "Fast (inexact)" in str(ratios("int8", [one]))
    assert (
        "difference from exact"
        not in page("a-cpu", [rank(group({"edgepack": 4.0}))]).partition("## Method")[0]
    )


def test_groups_measured_with_other_settings_are_named_with_them():
    new = group({"edgepack": 1.0}, net="vgg16", when="2026-02-02T00:00:00+00:00")
    old = group(
        {"edgepack": 1.0}, plan={**vars(TimingPlan()), "drift": 0.2}, when="2026-01-01T00:00:00+00:00"
    )
    lines = "\n".join(method([old, new]))
    assert "within 3%" in lines, "the latest group's"
    assert "those of vgg16-fp32-1t. Others: drift 0.2 in resnet18-fp32-1t." in lines
    assert "Others:" not in "\n".join(method([new]))


def test_there_is_a_report_of_nothing(tmp_path):
    assert "There are no results yet." in write_report(tmp_path).read_text()


def test_a_table_keeps_its_columns():
    assert markdown(["a", "b"], [["x|y", "1\n2"]]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 2 |"


def test_notes_become_json():
    assert tidy({"a": float("nan"), 2: (1, {3}), "c": None}) == {"a": None, "2": [1, "{3}"], "c": None}
