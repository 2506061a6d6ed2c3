"""Inputs of MNN's tools, and reports of their failures; MNN itself is not needed."""

import json
import time

import numpy as np
import pytest

from benchmarks.peers.contestants import mnn
from benchmarks.peers.protocol import Assignment, Unsupported


@pytest.fixture
def task(tmp_path):
    """An int8 task whose calibration data is two samples of floats and of token ids."""
    calibration = tmp_path / "calibration.npz"
    image = np.random.default_rng(0).standard_normal((2, 1, 3, 4), dtype=np.float32)
    ids = np.array([[[1, 30_521]], [[7, 0]]], np.int64)
    np.savez(calibration, image=image, ids=ids)
    nothing = tmp_path / "absent"
    return Assignment("net", nothing, nothing, calibration, "int8", 1, tmp_path, 0, 1.0)


def _soon():
    return time.monotonic() + 60


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Write a module ``_tools`` that shadows MNN's."""

    def write(code):
        (tmp_path / "_tools.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return write


def test_calibration_is_written_exactly(task):
    home = mnn._write_calibration(task)
    assert sorted(folder.name for folder in home.iterdir()) == ["0000", "0001"]
    for index, sample in enumerate(task.calibration_samples()):
        folder = home / f"{index:04}"
        shapes = {x["name"]: x["shape"] for x in json.loads((folder / "input.json").read_text())["inputs"]}
        for name, value in sample.items():
            read = np.loadtxt(folder / f"{name}.txt").astype(value.dtype).reshape(shapes[name])
            np.testing.assert_array_equal(read, value)


def test_a_tool_gets_its_name_and_arguments_as_one_list(tmp_path, tools):
    tools("def mnnquant(words): open(words[2], 'w').write(' '.join(words))\n")
    made = tmp_path / "int8.mnn"
    mnn._tool(["mnnquant", "fp32.mnn", str(made)], made, _soon())
    assert made.read_text() == f"mnnquant fp32.mnn {made}"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import os; os.abort()", "mnnquant died of SIGABRT and wrote no model"),
        ("print('Error: no such op'); print('done')", "exited with status 0 and wrote no model.*no such op"),
        ("raise SystemExit(3)", "exited with status 3 and wrote no model.*said nothing"),
    ],
)
def test_a_tool_that_makes_nothing_is_a_reason(tmp_path, tools, body, reason):
    tools(f"def mnnquant(words):\n    {body}\n")
    made = tmp_path / "int8.mnn"
    made.write_text("of an earlier run")
    with pytest.raises(Unsupported, match=reason):
        mnn._tool(["mnnquant"], made, _soon())


def test_a_tool_that_does_not_end_is_a_reason(tmp_path, tools):
    tools("def mnnquant(words):\n    import time; time.sleep(60)\n")
    with pytest.raises(Unsupported, match="mnnquant was stopped after 1 s"):
        mnn._tool(["mnnquant"], tmp_path / "int8.mnn", time.monotonic())


class _Fixed:
    """A session whose outputs do not depend on its inputs."""

    def __init__(self, *outputs):
        self.outputs = [np.asarray(output, np.float32) for output in outputs]

    def run(self, _inputs):
        return self.outputs


@pytest.mark.parametrize(
    ("int8", "cosine"),
    [([3.0, 4.0], 1.0), ([6.0, 8.0], 1.0), ([-4.0, 3.0], 0.0), ([0.0, 0.0], 0.0), ([[3.0], [4.0]], 0.0)],
)
def test_agreement_of_int8_with_fp32(task, tmp_path, monkeypatch, int8, cosine):
    models = {"fp32": _Fixed([3.0, 4.0]), "int8": _Fixed(int8)}
    monkeypatch.setattr(mnn, "_load", lambda path, _threads, _level: models[path.name])
    assert mnn._cosine(task, tmp_path / "fp32", tmp_path / "int8") == pytest.approx(cosine)


def test_the_first_method_that_agrees_is_kept(task, tmp_path, tools, monkeypatch):
    tools(
        "import os\n"
        "def mnnquant(words):\n"
        "    if 'KL' in words[2]: os.abort()\n"
        "    open(words[2], 'w').write('model')\n"
    )
    agreement = {"EMA.mnn": 0.5, "ADMM.mnn": 0.95}
    monkeypatch.setattr(mnn, "_cosine", lambda _task, _fp32, int8: agreement[int8.name])
    model, how = mnn._quantize(task, tmp_path / "fp32.mnn", _soon())
    assert model.name == "ADMM.mnn"
    assert how.startswith("mnnquant, ADMM activations")
    assert "KL: mnnquant died of SIGABRT" in how
    assert "EMA: cosine 0.500" in how


@pytest.mark.parametrize(
    ("errors", "level"), [((0, 0, 0, 0), 3), ((0, 0, 0, 1e-2), 2), ((0, 0, 1e-2, 1e-2), 1), ((0, 1, 1, 1), 0)]
)
def test_winograd_takes_the_largest_tiles_that_are_exact_enough(task, tmp_path, monkeypatch, errors, level):
    monkeypatch.setattr(mnn, "_load", lambda _path, _threads, level: _Fixed([1.0, -2.0 + errors[level]]))
    assert mnn._winograd(task, tmp_path / "fp32") == level
