"""The interface that every registered compression method must implement."""

import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from edgepack.compression import OnnxMethod, TorchMethod
from edgepack.compression.registry import METHODS, CompressStep


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_a_stage_a_spec_and_an_apply(name):
    method = METHODS[name]
    for level in method.levels:
        one = method.on(level)
        assert isinstance(one, {"torch": TorchMethod, "onnx": OnnxMethod}[level])
        assert callable(one.apply)
        assert one.spec is method.spec
    for level in {"torch", "onnx"} - set(method.levels):
        with pytest.raises(ValueError, match=name):
            method.on(level)
    assert method.name == name
    assert method.summary.endswith(".")
    assert sys.modules[method.spec.__module__].__doc__
    schema = TypeAdapter(CompressStep).json_schema()
    spec = schema["$defs"][schema["discriminator"]["mapping"][name].rpartition("/")[2]]
    assert spec["properties"]["method"]["const"] == name
    undocumented = [
        key for key, field in spec["properties"].items() if key != "method" and "description" not in field
    ]
    assert not undocumented


def test_steps_are_told_apart_by_method_and_strict():
    adapter = TypeAdapter(CompressStep)
    step = adapter.validate_json('{"method": "prune-channels", "ratio": 0.5, "skip": ["fc"]}')
    assert (step.ratio, step.skip) == (0.5, ("fc",))
    for wrong in (
        '{"method": "prune", "ratio": 0.5}',
        '{"method": "prune-channels", "ratio": "half"}',
        '{"method": "prune-channels", "ratio": 1}',
        '{"method": "prune-channels", "ratio": 0.5, "rate": 1}',
        '{"method": "quantize-static", "ratio": 0.5}',
        '{"method": "quantize-static", "samples": "many"}',
    ):
        with pytest.raises(ValidationError):
            adapter.validate_json(wrong)


@pytest.mark.parametrize(
    ("step", "wrong"),
    [
        ('"quantize-static", "percentile": 99', ["percentile"]),
        ('"quantize-static", "percentile": 99, "calibration": "percentile"', []),
        ('"quantize-static", "iterations": 10, "rounding": "compensated"', ["iterations"]),
        ('"quantize-weights", "samples": 9', ["samples"]),
        ('"quantize-weights", "samples": 128', []),
        ('"low-rank", "rank": 2, "samples": 9, "skip": ["fc"]', ["samples"]),
        ('"low-rank", "rank": 2, "samples": 9, "skip": "auto"', []),
        ('"prune-channels", "ratio": 0.5, "samples": 9', ["samples"]),
        ('"distill", "temperature": 2, "loss": "mse"', ["temperature"]),
    ],
)
def test_an_option_that_changes_nothing_is_a_conflict(step, wrong):
    found = TypeAdapter(CompressStep).validate_json(f'{{"method": {step}}}')
    conflicts = METHODS[found.method].conflicts(found)
    assert [option for option, _ in conflicts] == wrong
    assert all("changes nothing without" in message for _, message in conflicts)


@pytest.mark.parametrize("seed", [-1, 1 << 32])
def test_a_seed_is_one_that_all_libraries_take(seed):
    adapter = TypeAdapter(CompressStep)
    for name in ("cluster", "distill", "train-quantized"):
        with pytest.raises(ValidationError, match="seed"):
            adapter.validate_python({"method": name, "seed": seed})
        with pytest.raises(ValidationError, match="seed"):
            adapter.validate_python({"method": name, "fine_tune": {"epochs": 1, "seed": seed}})


def test_reading_recipes_imports_nothing_heavy():
    code = (
        "import sys, edgepack.compression, edgepack.torchnet.training, edgepack.compression.method, edgepack.export, edgepack.data;"
        "print(sorted({'torch', 'tvm', 'onnx', 'onnxruntime', 'numpy', 'sklearn', 'PIL'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
