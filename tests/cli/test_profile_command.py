"""``edgepack profile``: the kernels of a bundle on a board behind a real sshd."""

import json
from pathlib import Path

import pytest

RECIPE = """\
edgepack: 1
name: tiny
model: {onnx: tiny.onnx}
targets: [{target: TARGET}]
"""
FILES = Path(__file__).parent.parent / "versions" / "files"


@pytest.fixture(scope="module")
def bundle(module_cli, tiny_onnx):
    (module_cli.folder / "tiny.onnx").write_bytes(tiny_onnx.read_bytes())
    module_cli.write("recipe.yaml", RECIPE.replace("TARGET", "x86-64-v2"))
    done = module_cli("package", "recipe.yaml", "-o", "bundles")
    assert done.code == 0, done.err
    return "bundles/tiny-0.1.0-x86-64-v2.edgepack"


@pytest.fixture(scope="module")
def measured(module_cli, bundle):
    """The profile as JSON, and the timeline."""
    done = module_cli(
        "profile", bundle, "virtual:host", "--runs", 5, "--warmup", 1, "--trace", "t.json", "--json"
    )
    assert done.code == 0, done.err
    return done.json, json.loads((module_cli.folder / "t.json").read_text())


def test_every_kernel_has_its_work_and_its_nodes(measured):
    profile, _ = measured
    assert (profile["kind"], profile["edgepack"], profile["device"]) == ("profile", 1, "virtual:host")
    assert (profile["runs"], profile["warmup"], profile["threads"]) == (5, 1, 1)
    kernels = {kernel["nodes"][0]["operator"]: kernel for kernel in profile["kernels"]}
    conv, dense = kernels["Conv"], kernels["MatMul"]
    assert (conv["macs"], dense["macs"]) == (8 * 36 * 27, 8 * 36 * 10)
    assert (conv["nodes"][0]["module"], dense["nodes"][0]["module"]) == ("conv", "dense")
    for kernel in (conv, dense):
        assert kernel["gmacs"] == pytest.approx(kernel["macs"] / kernel["ms"] / 1e6)
        assert kernel["arithmetic"] == "float32"
        assert kernel["bound"] in {"compute", "memory"}
        assert kernel["roofline"] > 0
        assert kernel["tuned"] is False
    assert sum(kernel["share"] for kernel in profile["kernels"]) == pytest.approx(1)
    assert sorted(kernel["ms"] for kernel in profile["kernels"]) == [
        kernel["ms"] for kernel in reversed(profile["kernels"])
    ]
    assert profile["overhead"]["p25"] <= profile["overhead"]["median"] <= profile["overhead"]["p75"]
    assert profile["roofline"]["float32"]["gmacs"] > 0


def test_the_timeline_is_an_inference_in_chromes_format(measured):
    profile, trace = measured
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert [event["args"]["kernel"] for event in events] == [call["kernel"] for call in profile["calls"]]
    at = 0.0
    for event, call in zip(events, profile["calls"], strict=True):
        assert event["ts"] == pytest.approx(at)
        assert event["dur"] == pytest.approx(call["usual_ms"] * 1000)
        at += event["dur"]
    assert {event["name"] for event in trace["traceEvents"] if event["ph"] == "M"} == {
        "process_name",
        "thread_name",
    }


def test_the_table_is_for_people(module_cli, bundle):
    done = module_cli("profile", bundle, "virtual:host", "--runs", 3, "--threads", 2)
    assert done.code == 0, done.err
    head, *lines = done.out.splitlines()
    assert head.split()[:4] == ["kernel", "calls", "time", "share"]
    assert sum("fallback" in line for line in lines) == 2
    assert any("conv (Conv, Relu)" in line for line in lines)
    assert any(line.startswith("inference ") and "with 2 threads" in line for line in lines)
    assert any(line.startswith("overhead of profiling ") for line in lines)
    assert any("int8" in line and "GMAC/s" in line for line in lines)


def test_an_older_bundle_has_no_list_of_kernels(module_cli):
    done = module_cli("profile", FILES / "bundle-4.edgepack", "virtual:host")
    assert done.code == 2
    assert "the bundle" in done.err
    assert "Traceback" not in done.err


def test_a_model_of_the_virtual_machine_has_no_times_of_kernels(module_cli, bundle):
    module_cli.write("gpu.yaml", RECIPE.replace("TARGET", "jetson-orin"))
    built = module_cli("package", "gpu.yaml", "-o", "bundles")
    if built.code != 0 and "nvcc" in built.err:
        pytest.skip("needs a CUDA compiler")
    assert built.code == 0, built.err
    done = module_cli("profile", "bundles/tiny-0.1.0-jetson-orin.edgepack", "virtual:host")
    assert done.code == 2
    assert "TVM's virtual machine executes the model" in done.err
    assert "next:" in done.err


def test_a_timeline_that_cannot_be_written_is_told_before_measuring(module_cli, bundle):
    done = module_cli("profile", bundle, "virtual:host", "--trace", "nowhere/t.json")
    assert done.code == 2
    assert "no such folder: nowhere" in done.err


def test_a_run_measures_kernels_if_the_recipe_says_so(module_cli, bundle):
    recipe = RECIPE.replace("targets: [{target: TARGET}]", "bench: {runs: 3, warmup: 1, profile: true}")
    module_cli.write("run.yaml", recipe + "targets: [{target: x86-64-v2, device: virtual:host}]\n")
    done = module_cli("run", "run.yaml", "--json")
    assert done.code == 0, done.err
    (row,) = done.json["rows"]
    assert {node["module"] for kernel in row["profile"]["kernels"] for node in kernel["nodes"]} >= {
        "conv",
        "dense",
    }
    shown = module_cli("report")
    page = shown.err.partition("report: ")[2].strip()
    assert "<h2>Kernels</h2>" in Path(page).read_text()
    assert "## Kernels" in Path(page).with_name("report.md").read_text()
