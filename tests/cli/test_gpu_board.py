"""The GPU family end to end, on a virtual board whose GPU is emulated: this machine with a GPU, which is fast."""

import json
import shutil

import pytest
from command_line import lacking

from edgepack.bundle.archive import extract, read_file
from edgepack.emulation import sources
from edgepack.toolchain import cuda, nvrtc
from edgepack.toolchain.cubin import cubins

RECIPE = """\
edgepack: 1
name: digits
version: 0.1.0
model:
  source: edgepack.zoo.digits:network
  train: {epochs: 6, lr: 0.002}
  inputs:
    - {name: image, shape: [1, 1, 8, 8]}
data:
  source: edgepack.zoo.digits:splits
compress:
  - {method: prune-channels, ratio: 0.5, fine_tune: {epochs: 4}}
  - {method: quantize-static, samples: 64}
gates: {accuracy_drop: 0.1}
targets:
  - {target: host-gpu, device: virtual:host-gpu}
"""
TUNED = """\
edgepack: 1
name: tiny
model: {onnx: tiny.onnx}
tune: {trials: 4}
targets:
  - {target: host-gpu, device: virtual:host-gpu}
"""
BUNDLE = "out/digits-0.1.0-host-gpu.edgepack"


@pytest.fixture(scope="module")
def cli(module_cli):
    lacking("sshd")
    if not (cuda.nvcc() or nvrtc.library()):
        lacking("a CUDA compiler: pip install 'edgepack[cuda]'")
    module_cli.write("recipe.yaml", RECIPE)
    module_cli.write("next.yaml", RECIPE.replace("version: 0.1.0", "version: 0.2.0"))
    return module_cli


@pytest.fixture(scope="module")
def run(cli):
    done = cli("run", "recipe.yaml", "--json")
    assert done.code == 0, done.err
    return done.json


@pytest.fixture(scope="module")
def packaged(cli, run):
    for name in ("recipe.yaml", "next.yaml"):
        assert cli("package", name, "-o", "out").code == 0
    return cli.folder / "out"


@pytest.fixture
def board(cli):
    """A board of its own, without any kernels yet; the folder of its GPU."""
    assert cli("devices", "up", "--virtual", "host-gpu", "--name", "jetty").code == 0
    try:
        yield cli.home / "state/edgepack/virtual/jetty"
    finally:
        cli("devices", "down", "jetty", "--purge")


def test_fp32_and_int8_answer_as_onnxruntime_does(run):
    rows = {row["candidate"]: row for row in run["rows"]}
    assert rows["baseline"]["parity"] < 1e-5
    assert rows["release"]["parity"] < 0.01
    for row in rows.values():
        assert row["measurement"]["emulated"]
        assert row["board_samples"] > 300, "the whole test split"
        assert row["score_board"]["value"] == row["score_onnxruntime"]["value"]


def test_sources_lie_beside_the_bundle_and_not_in_it(packaged, cli):
    bundle = cli.folder / BUNDLE
    extract(bundle, cli.folder / "extracted")
    for path in (cli.folder / "extracted").rglob("*"):
        assert path.is_dir() or b"__global__" not in path.read_bytes(), path
    kernels = sources.read(packaged / "digits-0.1.0-host-gpu.kernels.cu")
    assert all("__global__" in each.source for each in kernels)
    found = [cubin.digest for cubin in cubins(read_file(bundle, "model/model.so"))]
    assert found == [each.digest for each in kernels]


def test_a_kernel_without_its_source_is_an_error_that_names_it(packaged, cli, board):
    lonely = cli.folder / "lonely.edgepack"
    shutil.copy(cli.folder / BUNDLE, lonely)
    (digest,) = [cubin.digest for cubin in cubins(read_file(lonely, "model/model.so"))]
    for command in ("deploy", "bench"):
        done = cli(command, "lonely.edgepack", "jetty")
        assert done.code == 2, done.err
        assert f"lonely.kernels.cu is missing, which has the source of cubin sha256:{digest}" in done.err
        assert "nothing was sent" in done.err
        assert "`edgepack package`" in done.err
    sources.write(cli.folder / "lonely.kernels.cu", [("int other;", b"another cubin")])
    done = cli("deploy", "lonely.edgepack", "jetty")
    assert done.code == 2
    assert f"lonely.kernels.cu has no source of cubin sha256:{digest}" in done.err


def test_deploy_bench_and_rollback_find_the_kernels(packaged, cli, board):
    digests = []
    for version in ("0.1.0", "0.2.0"):
        done = cli("deploy", f"out/digits-{version}-host-gpu.edgepack", "jetty", "--json")
        assert done.code == 0, done.err
        digests.append(done.json["digest"])
    done = cli("bench", BUNDLE, "jetty", "--runs", "2", "--warmup", "0", "--json")
    assert done.code == 0, done.err
    assert done.json["emulated"]
    (modules,) = board.rglob("modules")
    shutil.rmtree(modules)  # as if another version of edgepack had made them
    back = cli("rollback", "digits", "jetty", "--json")
    assert back.code == 0, back.err
    assert back.json["digest"] == digests[0]
    assert list(modules.glob("*.so"))


@pytest.mark.slow
def test_candidates_are_measured_and_their_records_stay_apart(cli, tiny_onnx):
    shutil.copy(tiny_onnx, cli.folder / "tiny.onnx")
    cli.write("tuned.yaml", TUNED)
    done = cli("tune", "tuned.yaml", "--json")
    assert done.code == 0, done.err
    (tuning, *_) = done.json["tuning"]
    assert tuning["emulated"]
    assert tuning["trials"] == 4
    assert all(kernel["untuned_ms"] > 0 for kernel in tuning["kernels"])
    kept = cli.home / "data/edgepack"
    (folder,) = (kept / "records-emulated").glob("host-gpu-*")
    lines = (folder / "tuning_record.json").read_text().splitlines()
    seconds = [second for _, (_, run, *_) in map(json.loads, lines) for second in run]
    assert len(lines) == 4
    assert all(0 < second < 10 for second in seconds), "a candidate that fails has 1e10"
    assert not (kept / "records").exists()
