"""Releases for x86-64 on boards of their own: an emulated CPU that has what the target says, and nothing else."""

import numpy as np
import pytest
from command_line import lacking

from edgepack.config.rows import misfit
from edgepack.config.target import load_target

RECIPE = """\
edgepack: 1
name: tiny
model: {onnx: tiny.onnx}
data: {npz: data.npz}
compress:
  - {method: quantize-static, samples: 16}
bench: {runs: 3, warmup: 1}
gates: {parity: 0.01}
targets:
  - {target: x86-64-v2, devices: [virtual:x86-64-v2, virtual:x86-64-v3]}
  - {target: x86-64-v3, device: virtual:x86-64-v3}
"""
ROWS = (
    ("x86-64-v2", "virtual:x86-64-v2"),
    ("x86-64-v2", "virtual:x86-64-v3"),
    ("x86-64-v3", "virtual:x86-64-v3"),
)


@pytest.fixture(scope="module")
def cli(module_cli, tiny_onnx):
    lacking("sshd", "qemu-x86_64-static")
    (module_cli.folder / "tiny.onnx").write_bytes(tiny_onnx.read_bytes())
    random = np.random.default_rng(3)
    arrays = {f"x_{part}": random.normal(size=(32, 3, 8, 8)).astype(np.float32) for part in ("train", "test")}
    labels = {f"y_{part}": np.arange(32) % 10 for part in ("train", "test")}
    np.savez(module_cli.folder / "data.npz", **arrays, **labels)
    module_cli.write("recipe.yaml", RECIPE)
    return module_cli


@pytest.fixture(scope="module")
def report(cli):
    done = cli("run", "recipe.yaml", "--json")
    assert done.code == 0, done.err
    return done.json


def test_each_release_answers_as_onnxruntime_does(report):
    rows = {(row["target"], row["device"], row["candidate"]): row for row in report["rows"]}
    assert set(rows) == {(*row, candidate) for row in ROWS for candidate in ("baseline", "release")}
    for (_, _, candidate), row in rows.items():
        assert row["parity"] < (1e-5 if candidate == "baseline" else 0.01)
        assert row["measurement"]["emulated"]


def test_preflight_refuses_what_the_cpu_lacks(cli, report):
    assert report["exit_code"] == 0
    assert cli("package", "recipe.yaml", "-t", "x86-64-v3", "-o", "out").code == 0
    refused = cli("deploy", "out/tiny-0.1.0-x86-64-v3.edgepack", "virtual:x86-64-v2")
    assert refused.code == 5, refused.err
    assert "CPU: the board lacks avx, avx2, f16c, fma" in refused.err
    assert "the release was not sent" in refused.err


def test_check_refuses_it_too(cli):
    wrong = RECIPE.replace(
        "target: x86-64-v3, device: virtual:x86-64-v3", "target: x86-64-v3, device: virtual:x86-64-v2"
    )
    cli.write("wrong.yaml", wrong)
    done = cli("check", "wrong.yaml")
    assert done.code == 2
    assert "`virtual:x86-64-v2` lacks avx, avx2, f16c, fma, which x86-64-v3 uses" in done.err


def test_a_release_for_avx512_answers_right_where_this_cpu_has_it(cli):
    """No emulated board has AVX-512; elsewhere its instructions are looked at: tests/lower/test_x86_levels.py."""
    if misfit("host", load_target("host"), load_target("x86-64-v4")):
        pytest.skip("this CPU is not of the level x86-64-v4")
    rows = "targets:\n  - {target: x86-64-v4, device: virtual:host}\n"
    cli.write("v4.yaml", RECIPE[: RECIPE.index("targets:")] + rows)
    done = cli("run", "v4.yaml", "--json")
    assert done.code == 0, done.err
    assert {row["target"] for row in done.json["rows"]} == {"x86-64-v4"}
