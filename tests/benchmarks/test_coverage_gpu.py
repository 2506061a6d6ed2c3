"""The zoo's networks and single cases on the emulated GPU, and how the coverage page shows them."""

import os

import pytest

from benchmarks.coverage import cases, gpu_page
from benchmarks.coverage.boards import place
from benchmarks.coverage.contestants import GPU_TARGET, edgepack
from benchmarks.coverage.networks import VARIANTS, ZooModel, measure
from edgepack.toolchain import cuda, nvrtc

_LONG = ("resnet50", "vgg16")  # minutes each: `make coverage` runs them
_UNSUPPORTED = ("lstm", "gru")


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    if os.uname().machine != "x86_64":
        pytest.skip("the target host-gpu is for x86-64")
    if not (cuda.nvcc() or nvrtc.library()):
        pytest.skip("no CUDA compiler: pip install 'edgepack[cuda]'")
    return place(tmp_path_factory.mktemp("board"), GPU_TARGET)


def check(board, variant, folder):
    row = measure(board, variant, folder, limit_s=300)
    if variant.net in _UNSUPPORTED:
        assert row["status"] == "refused"
        assert f"operator {variant.net.upper()} cannot be compiled" in row["why"]
    else:
        assert row["status"] == "passed", row
    return row


@pytest.mark.parametrize("variant", [ZooModel("digits", "fp16"), ZooModel("digits", "fp16", tuned=True)])
def test_digits_in_half_precision(board, variant, tmp_path):
    row = check(board, variant, tmp_path)
    assert row["error"] < 1e-3
    assert row.get("records", 0) == (row["kernels"] if variant.tuned else 0)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.net not in _LONG], ids=lambda v: v.name)
def test_the_zoo_in_every_precision(board, variant, tmp_path):
    check(board, variant, tmp_path)


@pytest.mark.parametrize("name", ["test_cumsum_2d_axis_0", "test_convtranspose", "test_top_k"])
def test_cases_run_on_the_gpu(board, name):
    (case,) = cases.collect(f"^{name}$")
    assert edgepack(case, lambda _partial: None, board=board) == {"status": "passed"}


def _row(name, cpu, gpu):
    return {"name": name, "edgepack": {"status": cpu}, "gpu": {"status": gpu, "why": "output 0: bad"}}


def test_the_page_names_cases_that_only_the_cpu_computes():
    rows = [_row("a", "passed", "passed"), _row("b", "wrong", "wrong"), _row("c", "passed", "wrong")]
    rows.append({"name": "d", "edgepack": {"status": "passed"}})
    assert "| passed | 3 | 1 |" in gpu_page.counts(rows)
    assert "| not run | 0 | 1 |" in gpu_page.counts(rows)
    assert gpu_page.differences(rows).endswith("- wrong: output 0: bad: `c`")
    assert "passes on the GPU, too" in gpu_page.differences(rows[:2])


def test_the_page_has_a_row_for_each_network():
    done = {"status": "passed", "error": 1.23e-6, "same": 0.5, "run_s": 0.123}
    rows = [
        {"net": "one", "precision": "fp32", "tuned": False, **done},
        {"net": "one", "precision": "int8", "tuned": False, **done, "error": 0.0},
        {"net": "two", "precision": "fp32", "tuned": False, "status": "refused", "why": "no such operator"},
        {"net": "one", "precision": "fp16", "tuned": True, **done, "status": "wrong"},
    ]
    assert gpu_page.networks(rows).splitlines()[2:] == [
        "| one | 1.2e-06; 0.12 s | not run | 0, 50.0% equal; 0.12 s |",
        "| two | refused: no such operator | not run | not run |",
        "| one, records | not run | wrong: 1.2e-06; 0.12 s | not run |",
    ]
