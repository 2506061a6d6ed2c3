"""Indices far out of range: clamped to the axis, on a CPU and on the emulated GPU, whichever operator uses them."""

import json
import subprocess

import numpy as np
import pytest
import values
from onnx import TensorProto, helper

from edgepack.agent.build import build_agent
from edgepack.bundle.runtime import runtime_libs
from edgepack.config.target import load_target
from edgepack.lower import build, compile_model, phases
from edgepack.lower.conditions import kernels
from edgepack.lower.graph.indices import unbounded

RANDOM = np.random.default_rng(0)
FAR = np.array([0, -1, 5, -6, 6, -7, 9999, -(10**9), 2**31, 2**32 + 3, 2**62, -(2**63), 2**63 - 1], "int64")
TABLE = RANDOM.random((6, 4), np.float32)
CUBE = RANDOM.random((5, 6, 7), np.float32)
ROWS = np.tile(FAR[:, None], (1, 4))
POINTS = RANDOM.choice(FAR, (9, 3))
UPDATES = RANDOM.random(ROWS.shape, np.float32)
SPOTS = RANDOM.random(len(POINTS), np.float32)
IMAGE = RANDOM.random((1, 1, 8, 8), np.float32)

INPUTS = {
    "ids": FAR,
    "small_ids": np.clip(FAR, -(2**31), 2**31 - 1).astype("int32"),
    "rows": ROWS,
    "points": POINTS,
    "table": TABLE,
    "image": IMAGE,
    "grid": np.array([1e30, -1e30, np.nan, np.inf, -np.inf, 0, 3, 2], "float32").reshape(1, 2, 2, 2),
    "regions": np.array([[0, 0, np.nan, 1e9], [-1e9, -1e30, 3, 3], [0, 0, 4, 4]], "float32"),
    "images": np.array([0, 9999, -(10**12)]),
    "pooled": np.ones((1, 1, 2, 2), "float32"),
    "places": np.array([5, 10**12, -7, 16]).reshape(1, 1, 2, 2),
}
CONSTANTS = {
    "fixed": TABLE,
    "cube": CUBE,
    "updates": UPDATES,
    "spots": SPOTS,
    "depth": np.array(6),
    "off_on": np.array([0.0, 1.0]),
}
make = helper.make_node
NODES = [
    make("Gather", ["fixed", "ids"], ["gather"]),
    make("Gather", ["fixed", "small_ids"], ["gather int32"]),
    make("GatherElements", ["fixed", "rows"], ["elements"]),
    make("GatherND", ["cube", "points"], ["nd"]),
    make("ScatterElements", ["table", "rows", "updates"], ["scatter"], reduction="add"),
    make("ScatterND", ["cube", "points", "spots"], ["scatter nd"], reduction="add"),
    make("OneHot", ["ids", "depth", "off_on"], ["one hot"]),
    make("GridSample", ["image", "grid"], ["sampled"]),
    make(
        "RoiAlign",
        ["image", "regions", "images"],
        ["aligned"],
        output_height=2,
        output_width=2,
        sampling_ratio=2,
    ),
    make("MaxUnpool", ["pooled", "places"], ["unpooled"], kernel_shape=[2, 2], strides=[2, 2]),
]

# Their number of samples depends on the regions, for which there is no schedule on a GPU.
REGIONS = make("RoiAlign", ["image", "regions", "images"], ["by size"], output_height=2, output_width=2)


def clamped(indices, size):
    """Return what a kernel makes of the indices: Python's integers do not overflow."""
    return np.array([min(max(int(i) + (i < 0) * size, 0), size - 1) for i in indices.ravel()]).reshape(
        indices.shape
    )


def expected():
    at = np.stack([clamped(POINTS[:, axis], size) for axis, size in enumerate(CUBE.shape)], -1)
    scattered, spotted = TABLE.copy(), CUBE.copy()
    for column in range(TABLE.shape[1]):
        np.add.at(scattered[:, column], clamped(ROWS[:, column], 6), UPDATES[:, column])
    np.add.at(spotted, tuple(at.T), SPOTS)
    hot = np.zeros((len(FAR), 6), np.float32)
    for row, index in enumerate(FAR):
        if -6 <= index < 6:
            hot[row, index] = 1
    return {
        "gather": TABLE[clamped(FAR, 6)],
        "gather int32": TABLE[clamped(INPUTS["small_ids"], 6)],
        "elements": np.take_along_axis(TABLE, clamped(ROWS, 6), 0),
        "nd": CUBE[tuple(at.T)],
        "scatter": scattered,
        "scatter nd": spotted,
        "one hot": hot,
    }


@pytest.mark.parametrize(
    ("run", "nodes"), [(values.on_cpu, [*NODES, REGIONS]), (values.on_gpu, NODES)], ids=["cpu", "gpu"]
)
def test_indices_are_clamped(run, nodes, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPACK_CHECK_PHASES", "1")
    model = values.save(tmp_path / "indices.onnx", nodes, INPUTS, CONSTANTS)
    got = dict(zip([node.output[0] for node in nodes], run(model, INPUTS), strict=True))
    for name, value in expected().items():
        np.testing.assert_allclose(got[name], value, rtol=1e-6, err_msg=name)
    assert (got["aligned"][2] >= 0).all()  # the last region is valid, and of an image that is not
    if REGIONS in nodes:
        assert np.isnan(got["by size"][0]).all(), (
            "a region of NaN would have no samples, and nothing be written"
        )
        assert (got["by size"][2] > 0).all()


def test_without_the_phase_there_are_indices_that_nothing_bounds(tmp_path):
    """So that the test above would notice if it were left out."""
    model = values.save(tmp_path / "indices.onnx", NODES, INPUTS, CONSTANTS)
    target = load_target("x86-64-v3")
    lowering = build._lowering(model, target, None)
    items = [item for item in phases.phases_for(target) if item.name != "bound-indices"]
    mod = phases.run(items, lowering, until=phases.KERNELS)
    assert sum(unbounded(function) is not None for _, function in kernels(mod)) >= 5


def test_the_agent_names_the_input_and_the_index(tmp_path):
    nodes = [
        make("Cast", ["ids"], ["narrow"], to=TensorProto.INT32),
        make("Gather", ["fixed", "narrow"], ["y"]),
    ]
    inputs = {"x": np.zeros(1, "float32"), "ids": np.array([[0, 1, 2]])}
    nodes.append(make("Neg", ["x"], ["z"]))
    path = values.save(tmp_path / "m.onnx", nodes, inputs, CONSTANTS, outputs=["y", "z"])
    library = compile_model(path, load_target("x86-64-v3"), tmp_path / "m.so").path
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib").mkdir()
    for name, source in runtime_libs("x86_64").items():
        (tmp_path / "lib" / name).symlink_to(source)
    agent = tmp_path / "bin" / "agent"
    agent.write_bytes(build_agent("x86_64", "2.28").read_bytes())
    agent.chmod(0o755)

    def run(ids):
        np.save(tmp_path / "x.npy", inputs["x"])
        np.save(tmp_path / "ids.npy", np.array([ids]))
        words = [
            "run",
            "--model",
            library,
            "--output-dir",
            tmp_path,
            "--input",
            "x.npy",
            "--input",
            "ids.npy",
        ]
        done = subprocess.run([agent, *words], capture_output=True, check=False, cwd=tmp_path)
        return done.returncode, json.loads(done.stdout)

    code, result = run([0, -6, 5])
    assert code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "output-0.npy")[0], TABLE[[0, -6, 5]])
    assert result["ok"]
    for wrong in (6, -7, 2**63 - 1, -(2**63)):
        code, result = run([0, 5, wrong])
        assert (code, result["kind"]) == (3, "input")
        assert (
            result["error"] == f"ids.npy: index {wrong} (element 2 of 'ids') is out of range: must be -6 to 5"
        )
