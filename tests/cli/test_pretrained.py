"""Pretrained networks from PyPI, from the command line to the agent, against onnxruntime on the package's own file.

magika (Apache-2.0) recognises a file's type, basic-pitch (Apache-2.0) the notes in a recording, silero-vad (MIT)
whether someone speaks. docs/dependencies.md lists them; nothing of these packages is part of edgepack.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from pretrained import BASIC_PITCH, MAGIKA, SILERO, SILERO_UNROLLED, music, of_bytes, speech

RECIPE = """\
edgepack: 1
name: net
model:
  onnx: {path}
  inputs: [{inputs}]
targets:
  - target: x86-64-v3
"""


@pytest.fixture
def release(cli):
    """Checks and builds a network; returns a function that runs the release's agent on one sample."""

    def build(network):
        cli.write("recipe.yaml", RECIPE.format(path=network.file(), inputs=network.inputs))
        done = cli("check", "--deep", "recipe.yaml")
        assert done.code == 0, done.err
        done = cli("package", "recipe.yaml", "-o", "out")
        assert done.code == 0, done.err
        (bundle,) = (cli.folder / "out").glob("*.edgepack")
        done = cli("bundle", "extract", bundle, "release")
        assert done.code == 0, done.err
        return run

    def run(*arrays):
        root, out = cli.folder / "release", cli.folder / "outputs"
        out.mkdir(exist_ok=True)
        argv = [root / "bin/edgepack-agent", "run", "--model", root / "model/model.so", "--output-dir", out]
        for number, array in enumerate(arrays):
            np.save(out / f"in-{number}.npy", array)
            argv += ["--input", out / f"in-{number}.npy"]
        subprocess.run(argv, check=True, capture_output=True, timeout=60)
        return [np.load(path) for path in sorted(out.glob("output-*.npy"))]

    return build


def reference(network):
    session = onnxruntime.InferenceSession(str(network.file()), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return lambda *arrays, **named: session.run(None, dict(zip(names, arrays, strict=False)) | named)


def test_magika_recognises_files(release):
    run, expected = release(MAGIKA), reference(MAGIKA)
    files = [
        Path(__file__).read_bytes(),
        MAGIKA.file().read_bytes(),
        Path(sys.executable).read_bytes(),
        b"\n\n<!DOCTYPE html><html><head><title>x</title></head><body><p>y</p></body></html>\n",
        b"{}",
    ]
    kinds = set()
    for content in files:
        ((want,), (got,)) = expected(of_bytes(content)), run(of_bytes(content))
        np.testing.assert_allclose(got, want, atol=1e-4)
        assert got.argmax() == want.argmax()
        kinds.add(int(got.argmax()))
    assert len(kinds) >= 4


SOUNDS = {
    "a chord with noise": music(60, 64, 67, noise=0.01),
    "noise": music(noise=0.1),
    "silence": music(),
}


@pytest.mark.slow  # it has 68 kernels
def test_basic_pitch_hears_notes(release):
    run, expected = release(BASIC_PITCH), reference(BASIC_PITCH)
    for name, sound in SOUNDS.items():
        for got, want in zip(run(sound), expected(sound), strict=True):
            assert got.shape == want.shape
            np.testing.assert_allclose(got, want, atol=2e-3, err_msg=name)


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(SILERO, id="as LSTM"),
        pytest.param(SILERO_UNROLLED, id="unrolled", marks=pytest.mark.slow),
    ],
)
def test_silero_hears_a_voice_chunk_by_chunk(release, network):
    run, expected = release(network), reference(network)
    ours = theirs = np.zeros((2, 1, 128), np.float32)
    for chunk in speech(4):
        got, ours = run(chunk, ours)
        want, theirs = expected(chunk, sr=np.array(16000), state=theirs)
        np.testing.assert_allclose(got, want, atol=1e-5)
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
