"""`run` and `bench`: a compiled model on .npy files, its outputs and error messages."""

import json
import os
import subprocess

import numpy as np
import pytest
from agent_kit import LIBC, mlp

from edgepack.toolchain.zig import compile_c


def result(done):
    """The last line of stdout as JSON."""
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def x(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(1).standard_normal((1, 64), np.float32))
    return path


@pytest.fixture
def xs(tmp_path):
    path = tmp_path / "xs.npy"
    np.save(path, np.random.default_rng(2).standard_normal((7, 1, 64), np.float32))
    return path


def test_run_gives_the_models_output(bundle, x, tmp_path):
    done = bundle.run("run", "--model", bundle.library("mlp"), "--input", x, "--output-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert result(done) == {
        "ok": True,
        "samples": 1,
        "outputs": [{"dtype": "float32", "shape": [1, 10], "nan": 0, "inf": 0}],
    }
    np.testing.assert_allclose(
        np.load(tmp_path / "out/output-0.npy"), mlp()[1](np.load(x)), rtol=1e-4, atol=1e-4
    )


def test_each_runs_every_sample_and_stacks_the_outputs(bundle, xs, tmp_path):
    done = bundle.run(
        "run", "--model", bundle.library("mlp"), "--input", xs, "--output-dir", tmp_path, "--each"
    )
    assert result(done)["samples"] == 7
    out = np.load(tmp_path / "output-0.npy")
    assert out.shape == (7, 1, 10)
    np.testing.assert_allclose(out, mlp()[1](np.load(xs)), rtol=1e-4, atol=1e-4)


def test_a_relative_path_without_a_slash_is_a_file_and_not_a_system_library(bundle, x, tmp_path):
    (tmp_path / "model.so").write_bytes(bundle.library("mlp").read_bytes())
    done = bundle.run("run", "--model", "model.so", "--input", x, "--output-dir", ".", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_all_dtypes_go_in_and_come_out_and_not_finite_values_are_counted(bundle, tmp_path):
    floats = np.array([[0, -1, 1], [2, 3, -4]])  # logarithm: one -Inf, two NaN
    inputs = {name: floats.astype(name) for name in ("float32", "float16")}
    inputs |= {name: np.arange(6).reshape(2, 3).astype(name) for name in ("int8", "uint8", "int32", "int64")}
    inputs["bool"] = np.array([[True, False, True], [False, False, True]])
    words = []
    for name, array in inputs.items():
        np.save(tmp_path / f"{name}.npy", array)
        words += ["--input", tmp_path / f"{name}.npy"]
    done = bundle.run("run", "--model", bundle.library("dtypes"), *words, "--output-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    outputs = result(done)["outputs"]
    assert [output["dtype"] for output in outputs] == list(inputs)
    assert [(output["nan"], output["inf"]) for output in outputs[:3]] == [(2, 1), (2, 1), (0, 0)]
    for index, (name, array) in enumerate(inputs.items()):
        out = np.load(tmp_path / f"output-{index}.npy")
        assert out.dtype == array.dtype
        if name == "bool":
            np.testing.assert_array_equal(out, ~array)
        elif not name.startswith("float"):
            np.testing.assert_array_equal(out, array + array)


def test_bench_reports_every_sample_and_the_board_before_and_after(bundle, x):
    done = bundle.run(
        "bench", "--model", bundle.library("mlp"), "--input", x, "--warmup", 2, "--runs", 20, "--threads", 2
    )
    first, *samples, last = map(json.loads, done.stdout.splitlines())
    assert (first["runs"], first["warmup"], first["threads"]) == (20, 2, 2)
    assert first["load_ms"] > 0
    assert first["first_ms"] > 0
    assert len(samples) == 20
    assert all(sample["ns"] > 0 for sample in samples)
    assert last["peak_rss_kib"] > 4000  # the runtime alone is 5 MB on disk
    assert (
        first["before"].keys()
        == last["after"].keys()
        >= {"governor", "frequency_khz", "temperature", "throttling"}
    )


def test_an_input_of_the_wrong_shape_has_tvms_message(bundle, xs, tmp_path):
    done = bundle.run("run", "--model", bundle.library("mlp"), "--input", xs, "--output-dir", tmp_path)
    assert done.returncode == 4
    assert "expect Tensor with ndim 2 but get 3" in result(done)["error"]
    assert b"param=x" in done.stderr


def test_a_model_with_an_operator_of_the_extra_library_names_what_is_missing(bundle, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((1, 8), np.float32))
    done = bundle.run(
        "run", "--model", bundle.library("sort"), "--input", tmp_path / "x.npy", "--output-dir", tmp_path
    )
    assert done.returncode == 4
    assert "tvm.contrib.sort" in result(done)["error"]


WRONG_ARGUMENTS = {
    "--input X --input X": (3, "has 1 inputs, got 2"),
    "--input nowhere.npy": (3, "nowhere.npy cannot be opened: No such file"),
    "--input X --device cuda": (7, "libtvm_runtime_cuda.so"),
    "--input X --threads 0": (2, "--threads must be a whole number from 1 to 256 (got '0')"),
    "--input X --threads 1x": (2, "got '1x'"),
    "--input X --each --each": (2, "duplicate option --each"),
    "--input X --frobnicate": (2, "run has no option '--frobnicate'"),
    "--input X --runs 3": (2, "run has no option '--runs'"),
    "--input": (2, "--input needs a value"),
    "": (2, "run needs --input"),
}


@pytest.mark.parametrize("words", WRONG_ARGUMENTS)
def test_wrong_arguments_are_reported_with_their_exit_code(bundle, x, tmp_path, words):
    code, text = WRONG_ARGUMENTS[words]
    arguments = [str(x) if word == "X" else word for word in words.split()]
    done = bundle.run("run", "--model", bundle.library("mlp"), "--output-dir", tmp_path, *arguments)
    assert done.returncode == code
    assert result(done)["ok"] is False
    assert text in result(done)["error"]
    assert text.encode() in done.stderr


def test_an_output_folder_that_cannot_be_made_is_an_output_failure(bundle, x):
    done = bundle.run("run", "--model", bundle.library("mlp"), "--input", x, "--output-dir", "/proc/nowhere")
    assert (done.returncode, result(done)["kind"]) == (5, "output")


def test_an_output_that_does_not_fit_is_an_output_failure(bundle, xs, tmp_path):
    argv = bundle.argv(
        "run", "--model", bundle.library("mlp"), "--input", xs, "--output-dir", tmp_path, "--each"
    )
    limited = ["/bin/sh", "-c", 'trap "" XFSZ; ulimit -f 0; exec "$@"', "sh", *argv]
    done = subprocess.run(limited, capture_output=True, check=False)
    assert (done.returncode, result(done)["kind"]) == (5, "output")
    assert "output-0.npy cannot be written: File too large" in result(done)["error"]


def fifo(path):
    os.mkfifo(path)
    return path


def test_a_path_that_names_something_else_than_a_file_is_refused_at_once(bundle, x, tmp_path):
    """Opening a FIFO waits for another process, and writing through a link changes another file."""
    model, pipe, out = bundle.library("mlp"), fifo(tmp_path / "pipe"), tmp_path / "out"
    out.mkdir()
    for given, data in ((model, pipe), (pipe, x), (model, "/dev/zero"), (model, tmp_path)):
        done = bundle.run("run", "--model", given, "--input", data, "--output-dir", out, timeout=20)
        assert done.returncode == 3
        assert "is not a regular file" in result(done)["error"]
    mine = tmp_path / "mine"
    mine.write_text("keep")
    for make, why in (
        (os.mkfifo, "it is a FIFO or a device"),
        (os.mkdir, "Is a directory"),
        (lambda path: path.symlink_to(mine), "it is a symbolic link"),
    ):
        there = tmp_path / f"out-{why.split()[-1]}"
        there.mkdir()
        make(there / "output-0.npy")
        done = bundle.run("run", "--model", model, "--input", x, "--output-dir", there, timeout=20)
        assert done.returncode == 5
        assert f"output-0.npy cannot be written: {why}" in result(done)["error"]
    assert mine.read_text() == "keep"


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ("(100000000000000000, 0)", "its samples have no elements"),
        ("(99999999999999999999,)", "invalid dimension"),
        ("(4611686018427387904, 4)", "too many elements"),
        ("(10000000000, 10)", "its header says"),
        ("(2, 64, 1, 1, 1, 1, 1, 1, 1)", "more than 8 dimensions"),
    ],
)
def test_a_header_may_claim_any_shape(bundle, tmp_path, shape, why):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    (tmp_path / "x.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    )
    words = ("--input", tmp_path / "x.npy", "--output-dir", tmp_path, "--each")
    done = bundle.run("run", "--model", bundle.library("mlp"), *words, timeout=20)
    assert done.returncode == 3
    assert why in result(done)["error"]


def test_a_truncated_or_foreign_model_is_named_before_it_is_loaded(bundle, x, tmp_path):
    whole = bundle.library("mlp").read_bytes()
    machine = bytearray(whole)
    machine[18:20] = (183).to_bytes(2, "little")  # EM_AARCH64
    cases = {
        "short": (whole[: len(whole) // 2], "is truncated"),
        "arm": (machine, "is built for aarch64, this board is x86_64"),
    }
    for name, (content, text) in cases.items():
        path = tmp_path / f"{name}.so"
        path.write_bytes(content)
        done = bundle.run("run", "--model", path, "--input", x, "--output-dir", tmp_path)
        assert done.returncode == 3
        assert text in result(done)["error"]


def test_a_model_that_ends_the_process_is_a_crash_with_its_line(bundle, x, tmp_path):
    """A library may do anything while it is loaded: here a constructor calls _exit and another aborts."""
    for body, text in (("_exit(0);", "exited with code 0"), ("abort();", "signal 6")):
        source = tmp_path / "model.c"
        source.write_text(
            f"#include <stdlib.h>\n#include <unistd.h>\n__attribute__((constructor)) void f(void) {{ {body} }}"
        )
        model = compile_c([source], tmp_path / "model.so", "x86_64", LIBC, ("-shared", "-fPIC"))
        done = bundle.run("run", "--model", model, "--input", x, "--output-dir", tmp_path)
        assert (done.returncode, result(done)["kind"]) == (8, "crash")
        assert (
            f"died while loading the model: {'it ' if 'exit' in text else 'killed by '}{text}"
            in result(done)["error"]
        )


def test_the_arm_agent_runs_the_arm_model(arm_bundle, x, tmp_path):
    done = arm_bundle.run("run", "--model", arm_bundle.library("mlp"), "--input", x, "--output-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "output-0.npy"), mlp()[1](np.load(x)), rtol=1e-4, atol=1e-4)
