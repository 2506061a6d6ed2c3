"""A network of the zoo as a torch module, for contestants that convert it; their environments include its dependencies."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.protocol import Assignment, Unsupported

# The last two are dependencies of edgepack.zoo.
REQUIREMENTS = ("torch==2.13.0", "numpy==2.4.6", "pydantic==2.14.3", "pyyaml==6.0.3")


def network(task: Assignment) -> Any:
    """Return the module with the task's weights, in eval mode."""
    import torch

    from edgepack.zoo import NETS

    module = NETS[task.net].architecture()
    module.load_state_dict(torch.load(task.weights, weights_only=True), assign=True)
    return module.eval()


def inputs(task: Assignment) -> tuple[Any, ...]:
    """Return name, shape and element type of the module's arguments, in order."""
    from edgepack.zoo import NETS

    return NETS[task.net].inputs


def samples(task: Assignment) -> list[tuple[Any, ...]]:
    """Return the calibration data as tensors, in the order of the arguments."""
    import torch

    names = [given.name for given in inputs(task)]
    return [
        tuple(torch.from_numpy(np.ascontiguousarray(row[name])) for name in names)
        for row in task.calibration_samples()
    ]


def save_exact(task: Assignment, module: Any) -> Path:
    """Save the outputs of a module quantized by PT2E: torch runs quantize and dequantize operators exactly, in fp32."""
    import torch

    names = [given.name for given in inputs(task)]

    def run(row: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            outputs = module(*(torch.from_numpy(np.ascontiguousarray(row[name])) for name in names))
        return [tensor.numpy() for tensor in ([outputs] if isinstance(outputs, torch.Tensor) else outputs)]

    return task.save_exact(run)


def by_precision(operators: Iterable[tuple[str, bool]], quantizer: str) -> dict[str, dict[str, int]]:
    """Return notes on how often each operator computes in int8, and how often not.

    Raises:
        Unsupported: No operator computes in int8.
    """
    counts = {True: Counter(), False: Counter()}
    for name, integer in operators:
        counts[integer][name] += 1
    if not counts[True]:
        raise Unsupported(f"{quantizer} leaves every operator of this network in fp32")
    return {"int8_operators": dict(counts[True]), "fp32_operators": dict(counts[False])}
