"""After every method, the estimated bytes of weights are near those of the compiled model."""

from dataclasses import replace

import pytest

from edgepack.compression.method import Context
from edgepack.compression.registry import BUILT_IN
from edgepack.config.target import load_target
from edgepack.export import to_onnx
from edgepack.export.bundled import module_weights
from edgepack.lower import compile_model
from edgepack.onnxfile.counting import count
from edgepack.torchnet.layers import example_inputs
from edgepack.weightfile.estimate import estimated_sizes

BOUND = 0.05
SHORT = {"epochs": 1}
OPTIONS = {
    "binarize": {"fine_tune": SHORT},
    "distill": {"fine_tune": SHORT},
    "low-rank": {"rank": 2},
    "prune-blocks": {"ratio": 0.5},
    "prune-channels": {"ratio": 0.5},
    "prune-layers": {"count": 1},
    "prune-weights": {"ratio": 0.8},
    "train-quantized": {"fine_tune": SHORT},
}
LEFT_OUT = {"fold", "hash-weights"}  # the network has nothing to fold; compiling its hashes takes minutes
ORDERS = [(name,) for name in BUILT_IN if name not in LEFT_OUT]
ORDERS += [("prune-weights", "train-quantized", "cluster"), ("prune-channels", "quantize-static")]


@pytest.mark.slow
@pytest.mark.parametrize("methods", ORDERS, ids=", ".join)
def test_estimated_bytes_are_near_those_of_the_compiled_model(methods, teacher, data, inputs, tmp_path):
    few = slice(0, 200)
    small = replace(
        data,
        x_train=data.x_train[few],
        y_train=data.y_train[few],
        x_test=data.x_test[few],
        y_test=data.y_test[few],
    )
    context = Context(inputs, small, teacher=lambda: teacher)
    module, path = teacher, None
    for name in methods:
        either = BUILT_IN[name]
        step = either.spec.model_validate({"method": name, **OPTIONS.get(name, {})})
        if "torch" in either.levels and path is None:
            module = either.on("torch").apply(module, step, context).module
            continue
        before = path or to_onnx(module, inputs, tmp_path / "m.onnx")
        path = tmp_path / f"{name}.onnx"
        either.on("onnx").apply(before, path, step, context)
    estimates = []
    if path is None:
        estimates.append(estimated_sizes(module_weights(module, example_inputs(inputs))))
        path = to_onnx(module, inputs, tmp_path / "m.onnx")
    estimates.append(estimated_sizes(count(path).weights))
    built = compile_model(path, load_target("x86-64-v3"), tmp_path / "m.so")
    file, memory = built.weights.stat().st_size, sum(each.resident_bytes for each in built.constants)
    for size, decoded in estimates:
        assert size == pytest.approx(file, rel=BOUND), (methods, estimates, file, memory)
        assert memory <= decoded * (1 + BOUND)
