"""``edgepack devices selftest``: what it checks, what it finds, and that it leaves nothing behind."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
from command_line import lacking

from edgepack.selftesting.cases import KERNELS, RELEASE, TOO_LARGE
from edgepack.toolchain import cuda, nvrtc

RELEASE_CHECKS = ["release", *(case.name for case in RELEASE.cases)]
KERNEL_CHECKS = ["kernels", *(case.name for case in KERNELS.cases), "emulation", TOO_LARGE.name]
# The command line with an agent that reports one output of the release wrongly.
WRONG = """
import edgepack.agent.protocol as protocol
from edgepack.cli import main
right = protocol.run
def run(on, inputs, **options):
    outputs = right(on, inputs, **options)
    outputs[-1] = outputs[-1] + 1e-3
    return outputs
protocol.run = run
main()
"""
# The command line with kernels of the emulated GPU that compute something else than their cubins should.
WRONG_KERNEL = """
import edgepack.emulation.sources as sources
from edgepack.cli import main
read = sources.read
def wrong(path):
    return [sources.Kernels(each.digest, each.source.replace("tanhf(", "sinhf(")) for each in read(path)]
sources.read = wrong
main()
"""
REAL = """
import edgepack.pipeline.emulated_gpu as emulated_gpu
from edgepack.cli import main
folder = emulated_gpu._gpu_folder
emulated_gpu._gpu_folder = lambda boards, name: folder(boards, "host-gpu" if name == "real" else name)
main()
"""
HANGS = (
    "import edgepack.selftesting.run as run; run.FIRST_TIMEOUT_S = 3; from edgepack.cli import main; main()"
)


@pytest.fixture(scope="module")
def cli(module_cli):
    lacking("sshd")
    yield module_cli
    module_cli("devices", "down", "--all")


@pytest.fixture(scope="module")
def host(cli):
    """The self-test of this machine, as JSON, and the board's home, without the work directory."""
    assert cli("devices", "up", "--virtual", "host").code == 0
    (cli.home / "state/edgepack/virtual/host/home/edgepack").rmdir()
    done = cli("devices", "selftest", "host", "--json")
    assert done.code == 0, done.err + done.out
    return done.json, cli.home / "state/edgepack/virtual/host/home"


@pytest.fixture(scope="module")
def gpu(cli):
    """A virtual board with an emulated GPU, and its self-test as JSON."""
    if os.uname().machine != "x86_64":
        pytest.skip("host-gpu is for x86-64 machines")
    if not (cuda.nvcc() or nvrtc.library()):
        lacking("a CUDA compiler: pip install 'edgepack[cuda]'")
    assert cli("devices", "up", "--virtual", "host-gpu").code == 0
    done = cli("devices", "selftest", "host-gpu", "--json")
    assert done.code == 0, done.err + done.out
    return done.json


@contextmanager
def described(cli, name, virtual, target=None):
    """A device in devices.yaml that is a virtual board, without edgepack knowing it."""
    board = next(d for d in cli("devices", "list", "--json").json["devices"] if d["name"] == virtual)
    board["target"] = target or board["target"]
    keys = ("host", "port", "user", "identity_file", "host_key", "target")
    lines = [f"    {key}: {board[key]}" for key in keys if board[key] is not None]
    cli.devices("\n".join(("edgepack: 1", "devices:", f"  {name}:", *lines, "")))
    try:
        yield
    finally:
        (cli.home / "config/edgepack/devices.yaml").unlink()


def by_name(document, group):
    return {check["name"]: check for check in document["checks"] if check["group"] == group}


def started(cli, code, *words):
    """A command line that runs after some code of its own."""
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, check=False, timeout=300, **cli.options())


def test_a_cpu_is_checked_compared_and_measured(host):
    document, _ = host
    assert (document["edgepack"], document["target"], document["emulated"]) == (1, "host", False)
    assert document["failed"] == []
    board = by_name(document, "board")
    assert list(board) == ["cpu", "userland", "libraries", "storage", "agent"]
    assert {check["status"] for check in board.values()} == {"passed"}
    release = by_name(document, "release")
    assert list(release) == RELEASE_CHECKS
    for name in RELEASE_CHECKS[1:]:
        assert release[name]["status"] == "passed"
        assert 0 <= release[name]["error"] <= release[name]["tolerance"] == 1e-5
    hardware = by_name(document, "hardware")
    assert {name: check["status"] for name, check in hardware.items()} == {
        "latency": "measured",
        "memory": "measured",
    }
    assert hardware["latency"]["figures"]["latency_ms"]["p50"] > 0
    assert hardware["latency"]["figures"]["state"]["memory_available_kib"] > 0
    assert hardware["memory"]["figures"]["bytes"] == 2 * 4 * 1024 * 4096


def test_nothing_but_the_agent_is_left_on_the_board(host):
    _, home = host
    assert [path.name for path in (home / "edgepack").iterdir()] == [".tools"]


def test_releases_on_the_board_stay(host, cli):
    _, home = host
    kept = home / "edgepack/digits/releases"
    kept.mkdir(parents=True)
    done = cli("devices", "selftest", "host", "--case", "softmax")
    assert done.code == 0, done.err
    assert "softmax" in done.out
    assert "conv" not in done.out
    assert "measured" not in done.out
    assert kept.is_dir()
    assert sorted(path.name for path in (home / "edgepack").iterdir()) == [".tools", "digits"]
    for folder in (kept, kept.parent):
        folder.rmdir()


def test_a_wrong_result_is_a_failed_check(host, cli):
    _, home = host
    done = started(cli, WRONG, "devices", "selftest", "host", "--case", "matmul", "--case", "softmax")
    assert done.returncode == 3, done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert line.split()[:3] == ["FAILED", "release", "softmax"]
    assert "wrong result: the largest error is" in line
    assert "host: checks failed: softmax" in done.stderr
    assert "nothing was installed or changed" in done.stderr
    assert [path.name for path in (home / "edgepack").iterdir()] == [".tools"]


def test_what_the_board_lacks_is_found_before_anything_is_sent(host, cli):
    with described(cli, "odd", "host", target="rpi4"):
        done = cli("devices", "selftest", "odd", "--json")
    assert done.code == 3, done.err
    assert done.json["failed"] == ["cpu"]
    checks = {check["name"]: check for check in done.json["checks"]}
    assert "the release is for aarch64" in checks["cpu"]["detail"]
    assert checks["userland"]["status"] == "skipped"
    for name in ("agent", *RELEASE_CHECKS, "latency", "memory"):
        assert checks[name]["status"] == "skipped"
        assert "lacks what a release needs: cpu" in checks[name]["detail"]


def test_wrong_names(cli, host):
    done = cli("devices", "selftest", "hots")
    assert (done.code, "no device named hots" in done.err) == (2, True)
    done = cli("devices", "selftest", "host", "--case", "sofmax", "--json")
    assert done.code == 2
    assert done.json["error"]["message"] == "no case sofmax for host"
    assert "softmax" in done.json["error"]["next"]
    assert cli("devices", "selftest", "host", "--case", "half-add").code == 2  # a case for GPUs


def test_kernels_of_a_gpu_are_compared_and_hardware_is_skipped(gpu):
    assert gpu["emulated"]
    assert {"gpu", "cuda"} <= set(by_name(gpu, "board"))
    kernels = by_name(gpu, "kernels")
    assert list(kernels) == KERNEL_CHECKS
    emulation = kernels.pop("emulation")
    assert (emulation["status"], emulation["detail"]) == ("skipped", "the board is emulated")
    assert {check["status"] for check in kernels.values()} == {"passed"}
    for name in ("half-add", "half-product", "half-rounding", "int8-dot"):
        assert (kernels[name]["error"], kernels[name]["tolerance"]) == (0, 0)
    assert kernels["too-large"]["detail"] == "refused: out of memory"
    hardware = by_name(gpu, "hardware")
    assert list(hardware) == ["latency", "memory", "machine-code"]
    assert {(check["status"], check["detail"]) for check in hardware.values()} == {("skipped", "emulated")}


def test_a_wrong_kernel_is_found_by_its_case(gpu, cli):
    done = started(cli, WRONG_KERNEL, "devices", "selftest", "host-gpu", "--case", "tanh", "--case", "exp")
    assert done.returncode == 3, done.stderr
    assert [line.split()[2] for line in done.stdout.splitlines() if line.startswith("FAILED")] == ["tanh"]


@pytest.mark.slow
def test_a_gpu_that_is_not_emulated_is_compared_with_the_emulation_and_measured(gpu, cli):
    """A device that is said to be real: it is the emulated one, and gets its kernels."""
    with described(cli, "real", "host-gpu"):
        done = started(cli, REAL, "devices", "selftest", "real", "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    document = json.loads(done.stdout)
    assert not document["emulated"]
    for group, net in (("release", RELEASE), ("kernels", KERNELS)):
        checks = by_name(document, group)
        assert checks["emulation"]["status"] == "passed"
        assert {checks[case.name]["emulation"] for case in net.cases} == {0}
    hardware = by_name(document, "hardware")
    assert {name: check["status"] for name, check in hardware.items()} == {
        "latency": "measured",
        "memory": "measured",
        "machine-code": "passed",
    }
    assert hardware["machine-code"]["detail"].endswith("kernels for sm_87")


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["reset", "hang"])
def test_a_gpu_that_fails_is_reported_and_what_follows_is_skipped(gpu, cli, fault):
    assert cli("devices", "up", "--virtual", "host-gpu", "--name", "faulty", "--fault", fault).code == 0
    try:
        done = started(
            cli,
            HANGS,
            "devices",
            "selftest",
            "faulty",
            *(f"--case={name}" for name in ("conv", "matmul", "exp", "tanh")),
        )
        left = list((cli.home / "state/edgepack/virtual/faulty/home/edgepack").iterdir())
    finally:
        cli("devices", "down", "faulty", "--purge")
    assert done.returncode == 3, done.stderr
    lines = [line.split()[:3] for line in done.stdout.splitlines()]
    assert ["FAILED", "release", "release"] in lines
    assert ["skipped", "release", "matmul"] in lines
    assert ["skipped", "kernels", "exp"] in lines
    if fault == "hang":
        assert "a kernel before it did not end" in done.stdout
    assert [path.name for path in left] == [".tools"]
