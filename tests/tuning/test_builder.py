"""The build server: a failure in one build does not affect others."""

import os
import queue
import signal
from pathlib import Path

import pytest
import tvm
from tune_kit import target
from tvm import te

from edgepack.config.target import load_target
from edgepack.errors import EdgepackError
from edgepack.schedules import FAMILIES, tvm_target
from edgepack.toolchain import cubin, cuda, nvrtc
from edgepack.tuning.build_server import describe
from edgepack.tuning.builder import Builder


@pytest.fixture
def mod():
    a = te.placeholder((64,), name="a")
    function = te.create_prim_func([a, te.compute((64,), lambda i: a[i] * 2.0, name="b")])
    return tvm.IRModule({"main": function.with_attr("global_symbol", "main")})


@pytest.fixture
def broken():
    """A module that TVM cannot compile: it calls an unsupported operator."""
    a = te.placeholder((64,), name="a")
    unknown = te.compute(
        (64,), lambda i: tvm.tirx.call_intrin("float32", "tirx.tvm_warp_shuffle", a[i]), name="b"
    )
    return tvm.IRModule({"main": te.create_prim_func([a, unknown]).with_attr("global_symbol", "main")})


@pytest.fixture(scope="module")
def server():
    done = queue.Queue()
    with Builder(done.put, target(), workers=1, timeout_s=60) as builder:
        yield builder, done


def _children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _workers_of(builder):
    return _children(builder._process.pid)


def _build(server, number, mod, out):
    builder, done = server
    builder.submit(number, mod, out)
    return done.get(timeout=120)


def test_a_module_becomes_a_program(server, mod, tmp_path):
    assert _build(server, 1, mod, tmp_path / "a.so").error is None
    assert (tmp_path / "a.so").read_bytes()[:4] == b"\x7fELF"


def test_a_module_that_does_not_compile_is_an_error_and_the_next_one_builds(server, mod, broken, tmp_path):
    failed = _build(server, 2, broken, tmp_path / "broken.so")
    assert failed.error
    assert not failed.lost
    assert _build(server, 3, mod, tmp_path / "b.so").error is None


def test_a_worker_that_dies_is_replaced(server, mod, tmp_path):
    assert _build(server, 4, mod, tmp_path / "c.so").error is None
    (worker,) = _workers_of(server[0])
    os.kill(worker, signal.SIGSTOP)  # so that it dies while working on the job
    builder, done = server
    builder.submit(5, mod, tmp_path / "d.so")
    os.kill(worker, signal.SIGKILL)
    assert done.get(timeout=60).error == "the compiler crashed"
    assert _build(server, 6, mod, tmp_path / "e.so").error is None
    assert _workers_of(server[0]) != [worker]


def test_a_build_that_hangs_ends_at_its_deadline(mod, tmp_path):
    done = queue.Queue()
    with Builder(done.put, target(), workers=1, timeout_s=2) as builder:
        builder.submit(0, mod, tmp_path / "a.so")
        done.get(timeout=120)
        (worker,) = _workers_of(builder)
        os.kill(worker, signal.SIGSTOP)
        builder.submit(1, mod, tmp_path / "b.so")
        assert "longer than 2 s" in done.get(timeout=30).error


def test_closing_reports_unfinished_builds_as_lost(mod, tmp_path):
    done = queue.Queue()
    builder = Builder(done.put, target(), workers=1)
    for number in range(3):
        builder.submit(number, mod, tmp_path / f"{number}.so")
    builder.close()
    answers = [done.get(timeout=1) for _ in range(3)]
    assert sorted(answer.id for answer in answers) == [0, 1, 2]
    assert any(answer.lost for answer in answers)


@pytest.mark.parametrize("name", ["rpi4", "jetson-orin"])
def test_a_candidate_is_built_for_the_board_not_for_this_machine(name, mod, tmp_path):
    board = load_target(name)
    if board.gpu and not (cuda.nvcc() or nvrtc.library()):
        message = "needs a CUDA compiler: pip install 'edgepack[cuda]'"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    with tvm_target(board):
        scheduled = FAMILIES[board.family].fallback(board)(mod)
    done = queue.Queue()
    with Builder(done.put, board, workers=1) as builder:
        builder.submit(0, scheduled, tmp_path / "a.so")
        assert done.get(timeout=120).error is None
    library = (tmp_path / "a.so").read_bytes()
    assert library[18] == 183  # e_machine: AArch64
    kernels = cubin.kernels(tmp_path / "a.so")
    assert [kernel.arch for kernel in kernels] == ([board.gpu.arch] if board.gpu else [])


@pytest.mark.parametrize(("name", "machine"), [("jetson-orin", 183), ("host-gpu", 62)])
def test_a_candidate_for_an_emulated_gpu_has_a_module_named_by_its_cubin(name, machine, mod, tmp_path):
    board = load_target(name)
    if not (cuda.nvcc() or nvrtc.library()):
        message = "needs a CUDA compiler: pip install 'edgepack[cuda]'"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    with tvm_target(board):
        scheduled = FAMILIES[board.family].fallback(board)(mod)
    done = queue.Queue()
    with Builder(done.put, board, workers=1, timeout_s=100, emulated_gpu=tmp_path) as builder:
        builder.submit(0, scheduled, tmp_path / "a.so")
        assert done.get(timeout=120).error is None
    (found,) = cubin.read_cubins(tmp_path / "a.so")
    (module,) = (tmp_path / "modules").iterdir()
    assert module.name == f"{found.digest}.so"
    assert module.read_bytes()[18] == machine  # e_machine


def test_what_is_wrong_with_a_candidate_is_one_line():
    ours = EdgepackError("the emulated GPU cannot run these kernels", why="it has no\n__nanosleep")
    assert describe(ours) == "the emulated GPU cannot run these kernels: it has no __nanosleep"
    assert describe(EdgepackError("the linker failed")) == "the linker failed"
    assert describe(ValueError("a\nb\n")) == "ValueError: b"
