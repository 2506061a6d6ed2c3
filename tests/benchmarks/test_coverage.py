"""The coverage benchmark: cases, processes, verdicts, and a few cases end to end."""

import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.coverage.__main__ import _results_to_extend
from benchmarks.coverage.cases import Case, bind, left_out
from benchmarks.coverage.contestants import verdict
from benchmarks.coverage.page import broken_promises, page
from benchmarks.coverage.pool import run_all
from benchmarks.coverage.results import Results, environment, write

UNEXPECTED = "output 0: 1 of 3 values are not as expected"
ROOT = Path(__file__).parents[2]


def case(operator="Reshape", inputs=None, outputs=None, shaping=(), dtype=TensorProto.FLOAT, **attributes):
    """A case of one node; inputs and outputs by name."""
    inputs = {"x": np.zeros((2, 3), "float32")} if inputs is None else inputs
    outputs = {"y": np.zeros((3, 2), "float32")} if outputs is None else outputs
    node = helper.make_node(operator, list(inputs), list(outputs), **attributes)

    def info(name, value):
        kind = helper.np_dtype_to_tensor_dtype(value.dtype) if isinstance(value, np.ndarray) else dtype
        return helper.make_tensor_value_info(name, kind, np.shape(value))

    graph = helper.make_graph(
        [node],
        "case",
        [info(*pair) for pair in inputs.items()],
        [info(*pair) for pair in outputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=3)
    return Case(
        "test_case",
        operator,
        model,
        tuple(inputs.values()),
        tuple(outputs.values()),
        1e-3,
        1e-7,
        frozenset(shaping),
    )


def test_shaping_inputs_become_constants():
    inputs = {"x": np.zeros((2, 3), "float32"), "shape": np.array([3, 2])}
    model, left = bind(case(inputs=inputs, shaping=["shape"]))
    assert list(left) == ["x"] == [value.name for value in model.graph.input]
    (constant,) = model.graph.initializer
    assert numpy_helper.to_array(constant).tolist() == [3, 2]
    assert model.ir_version == 4  # in older files an initializer is an input too


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (case, None),
        (lambda: case("Dropout", {"x": np.ones(3, "float32"), "t": np.array(True)}), "training"),
        (lambda: case("BatchNormalization", training_mode=1), "training"),
        (lambda: case("Bernoulli"), "random outputs"),
        (lambda: case("Identity", {"x": None}, dtype=TensorProto.BFLOAT16), "element types"),
        (lambda: case("Identity", {"x": None}, dtype=TensorProto.STRING), "strings"),
    ],
)
def test_cases_outside_the_subset_say_why(made, reason):
    found = left_out(made())
    assert found is None if reason is None else found.startswith(reason)


def test_sequences_and_optional_types_are_left_out():
    made = case()
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
    for kind, reason in (("sequence", "sequences"), ("optional", "optional types")):
        made.model.graph.output[0].type.CopyFrom(getattr(helper, f"make_{kind}_type_proto")(tensor))
        assert left_out(made) == reason


@pytest.mark.parametrize(
    ("got", "why"),
    [
        (np.array([1, 2, 3.0001], "float32"), None),
        (np.array([1, 2, 3.5], "float32"), f"{UNEXPECTED}: other values"),
        (np.array([1, 2, 3.01], "float32"), f"{UNEXPECTED}: off by less than 1% of the largest"),
        (np.array([1, 2, np.nan], "float32"), f"{UNEXPECTED}: infinite or not a number"),
        (np.array([1, 2, 3.0]), "output 0 is float64[3] instead of float32[3]"),
        (np.array([[1, 2, 3]], "float32"), "output 0 is float32[1, 3] instead of float32[3]"),
    ],
)
def test_outputs_are_compared_within_the_cases_tolerance(got, why):
    found = verdict(case(outputs={"y": np.array([1, 2, 3], "float32")}), [got])
    assert found == ({"status": "passed"} if why is None else {"status": "wrong", "why": why})


def test_one_rounding_of_the_largest_value_is_no_difference():
    made = case(outputs={"y": np.array([1e-9, 2, 50], "float32")})
    assert verdict(made, [np.array([2e-6, 2, 50], "float32")])["status"] == "passed"
    assert verdict(made, [np.array([2e-5, 2, 50], "float32")])["status"] == "wrong"


def test_a_missing_output_is_wrong():
    assert verdict(case(), [])["why"] == "0 outputs instead of 1"


def _work(job, tell):
    tell({"step": job})
    if job == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "raise":
        raise ValueError("no such thing")
    if job == "hang":
        subprocess.run(["sleep", "600"], check=False)
    if job == "exit":
        os._exit(3)
    return {"status": "passed"}


def test_a_crash_or_a_hang_costs_one_job():
    start = time.monotonic()
    jobs = ["crash", "hang", "raise", "exit", "fine", "good"]
    done = dict(run_all(jobs, _work, processes=2, limit=lambda _: 3))
    killed = "killed (SIGKILL): most likely out of memory"
    assert done["crash"] == {"step": "crash", "status": "crashed", "why": killed}
    assert done["hang"] == {"step": "hang", "status": "timed out", "why": "not done after 3 s"}
    assert done["exit"]["why"] == "exited with status 3"
    assert done["raise"]["status"] == "failed"
    assert done["raise"]["why"].startswith("ValueError: no such thing (test_coverage.py:")
    assert done["fine"] == {"step": "fine", "status": "passed"}
    assert time.monotonic() - start < 300  # the sleep was killed, not waited for


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """A run of ten cases with all contestants, as in `make coverage`: rows by name."""
    folder = tmp_path_factory.mktemp("coverage")
    results, out = folder / "results.json", folder / "page.md"
    names = "abs,relu_expanded_ver18,slice,lstm_defaults,basic_deform_conv_with_padding,conv_with_strides_no_padding,"
    names += "training_dropout_default,sequence_insert_at_back,nonzero_example,argmax_default_axis_example"
    pattern = f"^test_({names.replace(',', '|')})$"
    argv = [
        sys.executable,
        "-m",
        "benchmarks.coverage",
        "--cases",
        pattern,
        "--results",
        results,
        "--out",
        out,
    ]
    subprocess.run(argv, cwd=ROOT, check=True)
    document = json.loads(results.read_text())
    assert len(document["cases"]) == 10
    assert "10 cases, of which 8 are counted" in out.read_text()
    return {row["name"].removeprefix("test_"): row for row in document["cases"]}


@pytest.mark.parametrize(
    "name", ["abs", "relu_expanded_ver18", "slice", "lstm_defaults", "conv_with_strides_no_padding"]
)
def test_supported_operators_pass(small_run, name):
    assert small_run[name]["edgepack"] == {"status": "passed"}


def test_refused_and_left_out_cases_say_why(small_run):
    deformed = small_run["basic_deform_conv_with_padding"]
    assert deformed["edgepack"]["status"] == deformed["stock"]["status"] == "refused"
    assert "DeformConv" in deformed["edgepack"]["why"]
    assert "only known at run time" in small_run["nonzero_example"]["edgepack"]["why"]
    assert small_run["training_dropout_default"]["left_out"] == "training"
    assert small_run["sequence_insert_at_back"]["left_out"] == "sequences"
    assert "edgepack" not in small_run["sequence_insert_at_back"]


def test_stock_tvm_runs_cases_as_they_are_and_with_the_same_constants(small_run):
    sliced = small_run["slice"]
    assert sliced["bound"] == ["axes", "ends", "starts", "steps"]
    assert {"stock", "stock_bound"} <= set(sliced)
    assert "stock_bound" not in small_run["abs"]  # nothing is bound: as `stock`


def row(name, operator, **results):
    return {"name": name, "operator": operator, "opset": 18, "bound": [], **results}


PASSED, WRONG = {"status": "passed"}, {"status": "wrong", "why": f"{UNEXPECTED}: other values", "step": "run"}
REFUSED = {
    "status": "refused",
    "why": "operator Det cannot be compiled; it is not supported by TVM's ONNX importer",
    "step": "compile",
    "deep": "operator Det cannot be compiled: it is not supported by TVM's ONNX importer",
}
BROKEN = {"status": "failed", "why": "lowering phase 11-prepack failed", "step": "compile"}
ROWS = [
    row("test_det", "Det", edgepack=REFUSED, stock=REFUSED),
    row("test_det_nd", "Det", edgepack=REFUSED, stock=REFUSED),
    row("test_add", "Add", edgepack=PASSED, stock=PASSED),
    row("test_add_more", "Add", edgepack=WRONG, stock=WRONG, stock_bound=PASSED),
    row("test_cumsum", "CumSum", edgepack=BROKEN, stock=PASSED),
    row("test_seq", "SequenceAt", left_out="sequences"),
]


def _results(rows, about, networks=()):
    by_name = ({row["name"]: row for row in each} for each in (rows, networks))
    return Results(next(by_name), about, "x86-64-v3", next(by_name))


def test_the_page_counts_and_gives_reasons():
    text = page(_results(ROWS, {"machine": "x86_64", "onnx": "1.2"}))
    assert "6 cases, of which 5 are counted" in text
    assert "| passed | 1 | 2 | 3 |" in text
    assert "| refused | 2 | 2 | 2 |" in text
    assert "| wrong | 1 | 1 | 0 |" in text
    assert "| 1 | sequences |" in text
    assert "| Add | 1 of 2 |  | 2 of 2 |  | wrong: other values |" in text
    assert "| Det | 0 of 2 |  | 0 of 2 |  | refused: it is not supported by TVM's ONNX importer (2) |" in text
    assert "| SequenceAt |  |  |  | 1 | left out: sequences |" in text


def test_a_case_that_passes_the_deep_check_and_does_not_compile_is_listed():
    assert [each["name"] for each in broken_promises(ROWS[:-1])] == ["test_cumsum"]
    assert "- `test_cumsum`: lowering phase 11-prepack failed" in page(_results(ROWS, {"machine": "x"}))


def test_what_check_deep_says_is_kept(small_run):
    deep = small_run["basic_deform_conv_with_padding"]["edgepack"]["deep"]
    assert "operator DeformConv cannot be compiled" in deep
    assert "deep" not in small_run["abs"]["edgepack"]
    assert broken_promises(each for each in small_run.values() if "edgepack" in each) == []


def _coverage(*argv):
    command = [sys.executable, "-m", "benchmarks.coverage", *map(str, argv)]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


def test_results_of_other_tools_keep_their_name_and_are_not_mixed(tmp_path):
    path, out = tmp_path / "results.json", tmp_path / "page.md"
    write(path, Results({"test_add": ROWS[2]}, {"machine": "sparc", "onnx": "0.1"}, "rpi4"))
    before = path.read_bytes()
    assert _coverage("--page", "--results", path, "--out", out).returncode == 0
    assert "for rpi4 on sparc" in " ".join(out.read_text().split())
    assert "With onnx 0.1." in out.read_text()
    part = _coverage("--cases", "^test_abs$", "--results", path, "--out", out)
    assert part.returncode == 1
    assert part.stderr.startswith(f"{path}: the results for rpi4 with {{'machine': 'sparc', 'onnx': '0.1'}}")
    assert path.read_bytes() == before


def test_a_whole_run_replaces_results_of_other_tools_and_goes_on_with_its_own():
    def whole(target):
        return Namespace(target=target, results="r.json", cases="", only=None, resume=False, minutes=0.0)

    here = Results({"test_add": ROWS[2]}, environment(), "rpi4")
    assert _results_to_extend(here, whole("rpi4")) is here
    assert _results_to_extend(here, whole("rpi5")) == Results({}, environment(), "rpi5")
    old = Results(here.rows, {"machine": "sparc"}, "rpi4")
    assert _results_to_extend(old, whole("rpi4")) == Results({}, environment(), "rpi4")


def test_without_results_there_is_no_page(tmp_path):
    done = _coverage("--page", "--results", tmp_path / "none.json", "--out", tmp_path / "page.md")
    assert done.returncode == 1
    assert "run without --page first" in done.stderr
    assert not (tmp_path / "page.md").exists()
