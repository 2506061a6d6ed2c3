"""Where results are, and what a user sees of them: on a named virtual board, and of a run that fails."""

import re
import subprocess

import pytest
from command_line import lacking

from edgepack.cli.board_info import describe

RECIPE = """\
edgepack: 1
name: tiny
model: {onnx: tiny.onnx}
bench: {runs: 3, warmup: 1}
gates: {parity: 0.001, p90_ms: 1000}
targets:
  - {target: x86-64-v3, device: named}
"""


@pytest.fixture(scope="module")
def cli(module_cli, tiny_onnx):
    lacking("sshd")
    (module_cli.folder / "tiny.onnx").write_bytes(tiny_onnx.read_bytes())
    module_cli.write("recipe.yaml", RECIPE)
    assert module_cli("devices", "up", "--virtual", "host", "--name", "named").code == 0
    yield module_cli
    assert module_cli("devices", "down", "--all", "--purge").code == 0


@pytest.fixture(scope="module")
def done(cli):
    assert cli("check", "recipe.yaml").code == 0
    run = cli("run", "recipe.yaml", "-o", "bundles")
    assert run.code == 0, run.err
    return run


def test_a_named_virtual_board_can_be_a_recipes_device(cli, done):
    assert "x86-64-v3 on named" in done.out
    cli.write("wrong.yaml", RECIPE.replace("device: named", "device: nmaed"))
    assert "unknown device `nmaed`; did you mean `named`?" in cli("check", "wrong.yaml").err


def test_the_bundle_is_where_it_was_asked_for_else_in_the_runs_folder(cli, done):
    name = "tiny-0.1.0-x86-64-v3.edgepack"
    assert f"bundle: bundles/{name}" in done.err
    assert cli("bundle", "verify", f"bundles/{name}").code == 0
    again = cli("run", "recipe.yaml")
    (path,) = re.findall("^bundle: (.*)$", again.err, re.MULTILINE)
    assert path.endswith(name)
    assert cli("bundle", "verify", path).code == 0
    cli.write("taken", "a file")
    for out in ("taken", "taken/below"):
        refused = cli("run", "recipe.yaml", "-o", out)
        assert refused.code == 2
        assert "taken" in refused.err
        assert "compile" not in refused.err


def test_without_compression_there_is_one_column_and_no_comparison(done):
    lines = [re.split(r"  +", line.strip()) for line in done.out.splitlines() if line.startswith("  ")]
    assert ["release"] in lines
    (latency,) = (line for line in lines if line[0] == "Latency p50")
    assert len(latency) == 2
    assert not any("—" in cell for line in lines for cell in line[1:])


def test_devices_info_is_for_people(cli, done):
    shown = cli("devices", "info", "named")
    assert shown.code == 0, shown.err
    lines = dict(line.split(maxsplit=1) for line in shown.out.splitlines() if len(line.split()) > 1)
    assert lines["device"] == "named, target host"
    assert "glibc" in lines["system"]
    assert " available" in lines["memory"]
    assert "current" in lines["tiny"]
    assert not re.search(r"[{}\[\]]|'", shown.out)
    assert cli("devices", "info", "named", "--json").json["releases"]["tiny"][0]["current"]


def test_a_jetson_is_described_with_its_clocks_and_rails():
    state = {
        "governor": ["schedutil"] * 2, "frequency_khz": [729600, 1510400], "frequency_max_khz": [1510400] * 2,
        "temperature": [{"zone": "gpu", "celsius": 48.5}], "load_1min": 0.5, "memory_available_kib": 4_000_000,
        "power_mode": "15W", "power": [{"rail": "VDD_IN", "milliwatts": 5400}],
        "gpu": [{"name": "ga10b", "governor": "nvhost", "frequency_khz": 306000, "frequency_max_khz": 624750}],
        "throttling": {"raspberry_pi_flags": 0x50005, "undervoltage": True, "events": 2, "cooling": ["cpu-throttle"]},
    }  # fmt: skip
    probe = {
        "device": "orin", "target": "jetson-orin", "arch": "aarch64", "libc": "glibc 2.39", "kernel": "6.8", "board": None,
        "emulation": "qemu", "cpu": None, "features": [], "cores": 6, "memory_total_kib": 8_000_000, "agent": "0.1",
        "protocol": 3, "disk": {"path": "/home", "free_bytes": None}, "runtime": {"tvm": "0.27"}, "state": state,
        "cuda": {"l4t": "R38", "runtimes": ["libcudart.so.13"], "driver": True, "loadable": False}, "releases": {"x": []},
    }  # fmt: skip
    lines = dict(describe(probe))
    assert lines["clock"] == "729.6 to 1510.4 of 1510.4 MHz, governor schedutil"
    assert lines["GPU clock"] == "ga10b 306 of 624.75 MHz, nvhost"
    assert lines["power"] == "VDD_IN 5400 mW"
    assert "0x50005" in lines["throttled"]
    assert "too low a supply voltage" in lines["throttled"]
    assert lines["CUDA"] == "driver; libcudart.so.13, which cannot be loaded by TVM's runtime"
    assert lines["x"] == "no complete release"
    unknown = {"raspberry_pi_flags": None, "undervoltage": None, "cooling": None, "events": 0}
    bare = {**state, "frequency_khz": [], "temperature": [], "gpu": [], "power": [], "power_mode": None}
    lines = dict(describe({**probe, "state": {**bare, "throttling": unknown}}))
    assert (lines["temperature"], lines["throttled"]) == ("not known", "not known")


def test_runs_boards_and_stages_complete(cli, done):
    def complete(words, position):
        options = cli.options()
        options["env"] |= {
            "_EDGEPACK_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(position),
        }
        done = subprocess.run(cli.argv(), check=False, **options)
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    latest, *runs = complete("edgepack report ", 2)
    assert latest == "latest"
    assert runs == sorted(runs, reverse=True)
    assert runs
    assert all("-tiny-" in run for run in runs)
    assert complete("edgepack devices down na", 3) == ["named"]
    assert complete("edgepack bench x.edgepack na", 3) == ["named"]
    assert complete("edgepack run recipe.yaml --fresh comp", 4) == ["compress", "compile"]
    assert complete("edgepack targets show rp", 3) == ["rpi3", "rpi4", "rpi5"]
    assert complete("edgepack init m.onnx -t rp", 4) == ["rpi3", "rpi4", "rpi5"]


def test_a_failed_run_prints_its_error_first_and_no_rows_of_dashes(cli):
    cli.write(
        "dead.yaml", RECIPE.replace("device: named", "device: dead").replace("name: tiny", "name: dead")
    )
    cli.devices("edgepack: 1\ndevices:\n  dead: {host: nowhere.invalid, target: x86-64-v3}\n")
    together = {**cli.options(), "stderr": subprocess.STDOUT}
    out = subprocess.run(cli.argv("run", "dead.yaml", "--offline"), check=False, **together).stdout
    error, table = out.index("error: dead: "), out.index("dead 0.1.0: 1 of 1 target failed")
    assert error < table
    assert out.count("nowhere.invalid") <= 3  # the stage's line, the error, and why figures are missing
    assert "Compiled model" in out
    assert not re.search("—$", out, re.MULTILINE)
