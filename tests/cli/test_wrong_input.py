"""Twelve wrong inputs and more: each has its message and exit code, no traceback, and loses nothing."""

import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import lacking

from edgepack.remote import virtual

RECIPE = """\
edgepack: 1
name: {name}
model:
  onnx: tiny.onnx
bench:
  runs: 5
  warmup: 1
tune:
  trials: {trials}
targets:
  - target: {target}
    device: {device}
"""


@pytest.fixture(autouse=True)
def no_board_is_left(cli, monkeypatch):
    """The boards that a command brings up go down with it."""
    yield
    monkeypatch.setenv("XDG_STATE_HOME", cli.env["XDG_STATE_HOME"])
    assert virtual.running() == []


def recipe(cli, tiny_onnx, *, name="tiny", target="x86-64-v3", device="virtual:host", trials=0):
    (cli.folder / "tiny.onnx").write_bytes(tiny_onnx.read_bytes())
    return cli.write("recipe.yaml", RECIPE.format(name=name, target=target, device=device, trials=trials))


def refused(done, code, *words):
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err


def device_block(board, name="board", **changes):
    fields = {**board.device.model_dump(exclude_none=True), **changes}
    lines = "".join(
        f"    {key}: {str(value).lower() if isinstance(value, bool) else value}\n"
        for key, value in fields.items()
        if value is not None
    )
    return f"edgepack: 1\ndevices:\n  {name}:\n{lines}"


@pytest.fixture(scope="module")
def bundles(module_cli, tiny_onnx):
    """Bundles of the tiny network, for this machine and for a board of another architecture."""
    path = recipe(module_cli, tiny_onnx)
    path.write_text(path.read_text() + "  - target: rpi4\n")
    done = module_cli("package", "recipe.yaml")
    assert done.code == 0, done.err
    return module_cli.folder


@pytest.fixture
def bundle(bundles, cli):
    return Path(shutil.copy(bundles / "tiny-0.1.0-x86-64-v3.edgepack", cli.folder))


def test_a_recipe_typo(cli, tiny_onnx):
    path = recipe(cli, tiny_onnx)
    path.write_text(path.read_text().replace("trials:", "trails:").replace("warmup:", "warmups:"))
    for command in ("check", "run"):
        done = cli(command, path.name)
        refused(done, 2, "recipe.yaml:7:3:", "recipe.yaml:9:3:", "trials", "warmup", "2 problems")


def test_a_missing_file(cli, tiny_onnx):
    recipe(cli, tiny_onnx)
    (cli.folder / "tiny.onnx").unlink()
    refused(cli("run", "recipe.yaml"), 2, "recipe.yaml:4:9:", "tiny.onnx")
    refused(cli("run", "nowhere.yaml"), 2, "nowhere.yaml", "no such file")
    refused(cli("compile", "nowhere.onnx", "--target", "rpi4"), 2, "nowhere.onnx")


def test_an_empty_onnx_file(cli, tiny_onnx):
    recipe(cli, tiny_onnx)
    (cli.folder / "tiny.onnx").write_bytes(b"")
    refused(cli("run", "recipe.yaml"), 2, "tiny.onnx", "empty")
    refused(cli("compile", "tiny.onnx", "--target", "rpi4"), 2, "tiny.onnx", "empty")
    assert not list(cli.folder.glob("*.so"))


def test_a_corrupt_onnx_file(cli, tiny_onnx):
    recipe(cli, tiny_onnx)
    (cli.folder / "tiny.onnx").write_bytes(tiny_onnx.read_bytes()[:-200])
    refused(cli("run", "recipe.yaml"), 2, "tiny.onnx")


def test_a_wrong_shape(cli, tiny_onnx):
    path = recipe(cli, tiny_onnx)
    path.write_text(
        path.read_text().replace("model:\n", "model:\n  inputs:\n    - {name: image, shape: [1, 3, 9, 9]}\n")
    )
    refused(cli("run", path.name), 2, "image", "[1, 3, 8, 8]", "[1, 3, 9, 9]")


def test_an_unknown_target(cli, tiny_onnx):
    recipe(cli, tiny_onnx, target="rpi44", device="virtual:rpi4")
    refused(cli("run", "recipe.yaml"), 2, "recipe.yaml:11:13:", "rpi44", "rpi4")
    refused(cli("compile", "tiny.onnx", "--target", "jetson-orni"), 2, "jetson-orni", "jetson-orin")
    refused(cli("targets", "show", "x86"), 2, "x86")


def test_tuning_without_a_budget_or_a_board(cli, tiny_onnx):
    path = recipe(cli, tiny_onnx)
    refused(cli("tune", path.name), 2, "no tuning budget", "--trials")
    path.write_text(path.read_text().replace("    device: virtual:host\n", ""))
    refused(cli("tune", path.name, "--trials", "4"), 2, "no target in the recipe has a device")


def test_a_library_that_cannot_be_written(cli, tiny_onnx):
    recipe(cli, tiny_onnx)
    (cli.folder / "taken").write_text("a file")
    for out, why in ((".", "it is a folder"), ("taken/x.so", "cannot write into taken")):
        refused(cli("compile", "tiny.onnx", "-t", "host", "-o", out), 2, why)


def test_bundles_that_cannot_be_written_are_not_built(cli, tiny_onnx):
    path = recipe(cli, tiny_onnx)
    (cli.folder / "taken").write_text("a file")
    done = cli("package", path.name, "-o", "taken/below")
    refused(done, 2, "cannot write into taken/below", "nothing was run", "--out")
    assert "load" not in done.err


def test_an_unreachable_host(cli, bundle):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        cli.devices(
            f"edgepack: 1\ndevices:\n  board:\n    host: 127.0.0.1\n    port: {taken.getsockname()[1]}\n    target: x86-64-v3\n"
        )
        refused(cli("deploy", bundle, "board"), 4, "board", "refused")


def test_one_dead_board_fails_its_own_row_only(cli, tiny_onnx):
    lacking("sshd")
    path = recipe(cli, tiny_onnx)
    path.write_text(path.read_text() + "  - target: host\n    device: dead\n")
    cli.devices("edgepack: 1\ndevices:\n  dead:\n    host: nowhere.invalid\n    target: host\n")
    done = cli("run", "recipe.yaml", "--json")
    refused(done, 7, "dead")
    stages = {(s["stage"], s["target"]): s["status"] for s in done.json["stages"]}
    assert stages["bench", "x86-64-v3"] == "done"
    assert stages["deploy", "host"] == "failed"


def test_an_unknown_host_key(cli, bundle, host_board):
    cli.devices(device_block(host_board, host_key=None))
    done = cli("deploy", bundle, "board")
    refused(done, 6, "SHA256:", "edgepack devices trust board")
    trusted = cli("devices", "trust", "board")
    assert trusted.code == 0
    assert "SHA256:" in trusted.out
    assert cli("deploy", bundle, "board").code == 0


def test_a_full_disk(cli, bundle, tmp_path):
    lacking("sshd")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        # The board after the mount: it has a mount namespace of its own.
        with virtual.up("host", f"cli-tests-small-{os.getpid()}", owned=True) as board:
            cli.devices(device_block(board, work_dir=str(small / "edgepack")))
            refused(cli("deploy", bundle, "board"), 5, "board", "the release was not sent")
        assert {p.name for p in small.rglob("*") if p.is_file()} == {
            "edgepack-agent"
        }  # which looked at the disk
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_wrong_architecture(cli, bundles, host_board):
    cli.devices(device_block(host_board))
    done = cli("deploy", bundles / "tiny-0.1.0-rpi4.edgepack", "board")
    refused(done, 5, "aarch64", "x86_64", "the release was not sent")


def test_bad_weights(cli):
    cli.write("net.py", "from torch import nn\n\ndef make():\n    return nn.Linear(4, 2)\n")
    text = """\
edgepack: 1
name: bad
model:
  source: net:make
  weights: weights.safetensors
  inputs:
    - {name: x, shape: [1, 4]}
targets:
  - target: x86-64-v3
"""
    cli.write("recipe.yaml", text)
    (cli.folder / "weights.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0not json")
    refused(cli("compress", "recipe.yaml"), 2, "weights.safetensors", "safetensors")
    (cli.folder / "weights.pt").write_bytes(pickle.dumps({"weight": print}))
    cli.write("recipe.yaml", text.replace(".safetensors", ".pt"))
    refused(cli("compress", "recipe.yaml"), 2, "weights.pt")


def test_a_damaged_bundle(cli, bundle):
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    bundle.write_bytes(data)
    refused(cli("bundle", "verify", bundle), 6, bundle.name)
    refused(cli("bundle", "extract", bundle, "out"), 6, bundle.name)
    assert not (cli.folder / "out").exists()


def test_a_killed_agent(cli, bundle, host_board):
    cli.devices(device_block(host_board))
    agent = rf"{re.escape(host_board.device.work_dir)}/.*edgepack-agent bench"  # not that of another run
    process = cli.start("bench", bundle, "board", "--runs", "1000000")
    try:
        killed = _kill_when_there(agent)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert killed
    assert process.returncode == 4, err
    assert "Traceback" not in err
    assert "by signal 9" in err or "by a signal" in err
    listing = subprocess.run(["pgrep", "-f", agent], capture_output=True, check=False)
    assert listing.returncode == 1


def _kill_when_there(pattern):
    for _ in range(600):
        if subprocess.run(["pkill", "-KILL", "-f", pattern], check=False).returncode == 0:
            return True
        time.sleep(0.1)
    return False


def test_ctrl_c_in_tuning_keeps_what_was_measured(cli, tiny_onnx):
    lacking("sshd")
    recipe(cli, tiny_onnx, trials=2000)
    records = cli.home / "data" / "edgepack" / "records"
    process = cli.start("run", "recipe.yaml")
    try:
        for _ in range(1200):
            if process.poll() is not None or _lines(records) >= 1:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    kept = _lines(records)
    assert kept >= 1
    # The next run goes on from there; and the board that was up is gone.
    done = cli("tune", "recipe.yaml", "--trials", str(kept + 4), "--json")
    assert done.code == 0, done.err
    assert done.json["tuning"][0]["trials"] >= kept + 4
    assert _lines(records) > kept
    assert cli("devices", "list").out == ""


def _lines(root):
    return sum(len(path.read_text().splitlines()) for path in root.glob("*/tuning_record.json"))


def test_an_internal_error_leaves_a_log_and_no_traceback(cli):
    code = "import edgepack.api, edgepack.cli; edgepack.api.targets = lambda: 1 / 0; edgepack.cli.main(['targets'])"
    done = subprocess.run([sys.executable, "-c", code], check=False, **cli.options())
    assert done.returncode == 1
    assert "internal error: ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((cli.home / "state/edgepack/crashes").iterdir())
