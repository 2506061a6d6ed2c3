"""Faults of an emulated GPU, from the command line: each has its error, exit code and state."""

import os
import subprocess
import sys

import pytest
from command_line import lacking

RECIPE = """\
edgepack: 1
name: tiny
model: {onnx: tiny.onnx}
targets:
  - {target: host-gpu}
"""
# What plays in the driver: words of the error, and the next step.
FAULTS = {
    "compute-capability": ("compiled for sm_87, the device is sm_72", "compute capability"),
    "out-of-memory": ("out of memory", "free memory on the board"),
    "reset": ("the GPU was reset during kernel", "reboot the board"),
    "hang": ("did not end within 3 s", "reboot the board"),
}
# The command line, with less patience.
IMPATIENT = "import edgepack.remote.smoke as s, edgepack.agent.protocol as p; s.TIMEOUT_S = p.FIRST_TIMEOUT_S = 3; from edgepack.cli import main; main()"


@pytest.fixture(scope="module")
def cli(module_cli, tiny_onnx):
    lacking("sshd")
    if os.uname().machine != "x86_64":
        pytest.skip("host-gpu is for x86-64 machines")
    (module_cli.folder / "tiny.onnx").write_bytes(tiny_onnx.read_bytes())
    module_cli.write("recipe.yaml", RECIPE)
    done = module_cli("package", "recipe.yaml")
    if "NVRTC" in done.err and done.code != 0:
        pytest.skip("needs nvcc or NVRTC")
    assert done.code == 0, done.err
    yield module_cli
    module_cli("devices", "down", "--all")


@pytest.fixture(scope="module")
def bundle(cli):
    [path] = cli.folder.glob("*.edgepack")
    return path


def run(cli, *words):
    command = [sys.executable, "-c", IMPATIENT, *map(str, words)]
    return subprocess.run(command, check=False, timeout=300, **cli.options())


def test_without_a_fault_the_release_works(cli, bundle):
    assert cli("devices", "up", "--virtual", "host-gpu", "--order", "reverse").code == 0
    listed = cli("devices", "list")
    assert "host-gpu" in listed.out
    assert "order reverse" in listed.out
    done = cli("deploy", bundle, "host-gpu", "--json")
    assert (done.code, done.json["changed"]) == (0, True), done.err
    measured = cli("bench", bundle, "host-gpu", "--runs", 3, "--warmup", 1)
    assert "emulated: not comparable" in measured.out
    assert cli("devices", "down", "host-gpu").code == 0


@pytest.mark.parametrize(
    "fault",
    ["out-of-memory", *(pytest.param(f, marks=pytest.mark.slow) for f in FAULTS if f != "out-of-memory")],
)
def test_each_fault_has_its_error(cli, bundle, fault):
    words, step = FAULTS[fault]
    up = cli("devices", "up", "--virtual", "host-gpu", "--name", "faulty", "--fault", fault)
    assert up.code == 0, up.err
    try:
        [listed] = [
            device
            for device in cli("devices", "list", "--json").json["devices"]
            if device["name"] == "faulty"
        ]
        assert (listed["fault"], listed["order"]) == (fault, "forward")
        deployed = run(cli, "deploy", bundle, "faulty")
        assert deployed.returncode == 5, deployed.stderr
        assert words in deployed.stderr
        assert step in deployed.stderr
        assert "as before" in deployed.stderr
        assert cli("devices", "info", "faulty", "--json").json["releases"] == {"tiny": []}
        measured = run(cli, "bench", bundle, "faulty", "--runs", "3", "--warmup", "1")
        assert measured.returncode == 4, measured.stderr
        assert step in measured.stderr
        assert ("the agent was killed" in measured.stderr) == (fault == "hang")
    finally:
        cli("devices", "down", "faulty", "--purge")


def test_a_kind_without_a_gpu_has_no_faults(cli):
    done = cli("devices", "up", "--virtual", "host", "--fault", "hang")
    assert done.code == 2
    assert "has no GPU" in done.err
    assert "jetson-orin" in done.err
