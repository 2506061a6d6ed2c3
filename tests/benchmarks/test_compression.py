"""benchmarks/compression: the cells, their results, the comparisons and the page."""

import base64
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.compression import __main__ as compression
from benchmarks.compression import results
from benchmarks.compression.cells import (
    CELLS,
    CLAIMS,
    CURVE_NETS,
    CURVES,
    SOURCE,
    STUDENT,
    STUDENT_ALONE,
    CompressionCell,
    chosen,
    curve,
    of_claim,
    seeded,
)
from benchmarks.compression.compare import compare, difference
from benchmarks.compression.measure import measure, unpacked
from benchmarks.compression.nets import NETS, recipe
from benchmarks.compression.page import met, page
from edgepack.config.recipe import Recipe
from edgepack.errors import InputError, UsageError


def _figures(seed, score, weights=1000, **more):
    given = {"seed": seed, "seconds": 1.0, "score": score, "low": score - 0.01, "high": score + 0.01}
    sizes = {"weights": weights, "raw": 4000, "parameters": 1000, "nonzeros": 900, "macs": 5000}
    return {**given, "robust": score - 0.2, "fgsm": 0.5, **sizes, "steps": {}, **more}


def _right(wrong, samples=10_000):
    right = np.ones(samples, bool)
    right[:wrong] = False
    return base64.b64encode(np.packbits(right).tobytes()).decode()


@pytest.mark.parametrize("net", NETS)
def test_every_cell_is_a_valid_recipe(net):
    for cell in chosen([net], ""):
        steps = seeded(cell, 2)
        parsed = Recipe.model_validate_json(json.dumps(recipe(NETS[net], 2, steps)))
        assert parsed.model.train.seed == 2
        for step, given in zip(parsed.compress, steps, strict=True):
            assert getattr(step, "seed", 2) == 2, cell.name
            if "fine_tune" in given:
                assert step.fine_tune.seed == 2, cell.name


def test_names_are_unique_and_every_claim_and_curve_has_its_cells():
    names = [(cell.net, cell.name) for cell in CELLS]
    assert len(set(names)) == len(names)
    assert all(of_claim(claim) for claim in CLAIMS)
    assert all(len(curve(net, method)) >= 5 for net in CURVE_NETS for method in CURVES)
    assert {cell.net for cell in CELLS if cell.name == SOURCE} == set(NETS)


def test_cells_are_chosen_by_network_and_name_with_sources_first():
    found = chosen(["vgg"], "cluster")
    assert {cell.net for cell in found} == {"vgg"}
    assert all("cluster" in cell.name for cell in found)
    everything = chosen(list(NETS), "")
    assert len(everything) == len(CELLS)
    assert {cell.name for cell in everything[: len(NETS)]} == {SOURCE}


def test_a_cell_is_compared_with_its_source_of_the_same_seed():
    cells = {
        SOURCE: [_figures(0, 0.90), _figures(1, 0.92)],
        "small": [_figures(1, 0.91, 100, robust=0.73, macs=2500), _figures(2, 0.5)],
    }
    found = compare(cells, "small")
    assert found.score == (0.91,)
    assert found.drop == pytest.approx((1.0,))
    assert found.smaller == (40.0,)
    assert found.macs == (0.5,)
    assert found.robust_drop == pytest.approx((-1.0,))
    assert found.extra == pytest.approx((-2.0,))
    assert compare(cells, "another") is None


@pytest.mark.parametrize(
    ("drop", "smaller", "word"), [(0.4, 61, "aim"), (0.4, 40, "must"), (0.6, 61, "no"), (0.1, 30, "no")]
)
def test_a_claim_is_met_by_size_and_accuracy_together(drop, smaller, word):
    (claim,) = [claim for claim in CLAIMS if claim.only == "vgg"]
    cells = {SOURCE: [_figures(0, 0.9)], "small": [_figures(0, 0.9 - drop / 100, 4000 / smaller)]}
    assert met(claim, compare(cells, "small")) == word


def test_a_difference_has_an_interval_over_seeds_and_samples():
    alone = [{"seed": seed, "right": _right(1000 + 10 * seed)} for seed in range(3)]
    taught = [{"seed": seed, "right": _right(900)} for seed in range(3)]
    found = difference(taught, alone, 10_000)
    assert found.value == pytest.approx(1.1)
    assert 0.8 < found.low < found.value < found.high < 1.4
    assert found.decided
    assert not difference(alone, alone, 10_000).decided
    assert difference(taught, [{"seed": 7, "right": _right(1)}], 10_000) is None


@pytest.mark.parametrize("samples", [1, 8, 359])
def test_right_answers_are_packed_and_unpacked(samples):
    wanted = np.random.default_rng(samples).random(samples) < 0.5
    packed = base64.b64encode(np.packbits(wanted).tobytes()).decode()
    assert (unpacked(packed, samples) == wanted).all()


def test_results_are_kept_by_seed_and_steps(tmp_path):
    source, cell, *_ = (cell for cell in CELLS if cell.net == "vgg")
    other = replace(cell, steps=({"method": "bf16"},))
    results.save(tmp_path, source, _figures(0, 0.9))
    results.save(tmp_path, cell, _figures(1, 0.9))
    results.save(tmp_path, cell, {"seed": 0, "seconds": 1.0, "error": "no"})
    assert results.known(tmp_path, cell, 1)
    assert not results.known(tmp_path, cell, 0)  # to be tried again
    assert not results.known(tmp_path, other, 1)
    assert [each["seed"] for each in results.read(tmp_path)["vgg"][cell.name]] == [1]
    results.save(tmp_path, cell, _figures(0, 0.8))
    assert [each["score"] for each in results.read(tmp_path)["vgg"][cell.name]] == [0.8, 0.9]


def test_results_of_other_steps_are_not_compared_with(tmp_path):
    source, cell, *_ = (cell for cell in CELLS if cell.net == "vgg")
    results.save(tmp_path, source, _figures(0, 0.9))
    results.save(tmp_path, replace(cell, steps=({"method": "bf16"},)), _figures(0, 0.7))
    results.save(tmp_path, CompressionCell("vgg", "unknown", (), "x"), _figures(0, 0.7))
    assert set(results.read(tmp_path)["vgg"]) == {source.name}
    results.save(tmp_path, cell, _figures(1, 0.6))
    assert [each["score"] for each in results.read(tmp_path)["vgg"][cell.name]] == [0.6]


def test_the_page_has_what_was_measured_and_nothing_else():
    cells = {SOURCE: [_figures(0, 0.92)]}
    text, charts = page({"vgg": cells})
    assert not charts
    assert "92.00" in text
    assert STUDENT not in text
    for cell in CELLS:
        if cell.net == "vgg" and cell.name != SOURCE:
            cells[cell.name] = [_figures(0, 0.915, 160, right=_right(800))]
    cells[STUDENT_ALONE] = [_figures(0, 0.90, 160, right=_right(1000))]
    text, charts = page({"vgg": cells})
    assert set(charts) == {"compression-vgg.svg"}
    assert charts["compression-vgg.svg"].startswith("<svg")
    assert all(method in charts["compression-vgg.svg"] for method in CURVES)
    assert "Taught by its model, it is 2.00 pp better (95 % interval 1." in text
    assert re.search(r"VGG-like \| 0\.50 \| 0\.5 \| 0\.5 \| 25 \| 35 \| 60 \| +\| no \|", text)


def test_a_cell_is_measured_from_training_to_its_bundle(monkeypatch):
    monkeypatch.setitem(NETS, "digits", NETS["digits"])
    net = NETS["digits"]
    quick = type(net)(net.title, net.source, net.given, net.data, {**net.train, "epochs": 1}, net.robust)
    monkeypatch.setitem(NETS, "digits", quick)
    figures = measure(CompressionCell("digits", "a", ({"method": "quantize-static"},), "students"), 0)
    assert "error" not in figures, figures
    assert figures["low"] < figures["score"] < figures["high"]
    assert figures["parameters"] < figures["weights"] < figures["raw"] * 1.1 < figures["parameters"] * 1.3
    assert set(figures["steps"]) == {"source", "quantize-static"}
    assert unpacked(figures["right"], 359).mean() == pytest.approx(figures["score"])


def test_a_cell_that_fails_says_why():
    figures = measure(
        CompressionCell("digits", "a", ({"method": "cluster", "clusters": 16, "skip": ["nothing"]},), "x"), 0
    )
    assert "no layer or weight matches 'nothing'" in figures["error"]
    assert set(figures) == {"seed", "seconds", "error"}


def test_the_command_says_what_is_wrong(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="unknown nets: vggg"):
        compression.main(["--nets", "vggg"])
    with pytest.raises(InputError, match="no results there"):
        compression.main(["--page", "--out", str(tmp_path)])
    monkeypatch.setitem(NETS["vgg"].data["idx"], "folder", str(tmp_path / "gone"))
    with pytest.raises(InputError, match="Fashion-MNIST is missing"):
        compression.main(["--nets", "vgg", "--out", str(tmp_path)])
