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


def test_reading_recipes_imports_nothing_heavy():
    code = (
        "import sys, edgepack.compression, edgepack.torchnet.training, edgepack.compression.method, edgepack.export, edgepack.data;"
        "print(sorted({'torch', 'tvm', 'onnx', 'onnxruntime', 'numpy', 'sklearn', 'PIL'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
