"""A network of the zoo as a torch module, for contestants that convert it; their environments have what that needs."""

from typing import Any

import numpy as np

from benchmarks.peers.protocol import Task


def network(task: Task) -> Any:
    """The module with the task's weights, in eval mode."""
    import torch

    from edgepack.zoo import NETS

    module = NETS[task.net].architecture()
    module.load_state_dict(torch.load(task.weights, weights_only=True), assign=True)
    return module.eval()


def inputs(task: Task) -> tuple[Any, ...]:
    """Name, shape and element type of the module's arguments, in their order."""
    from edgepack.zoo import NETS

    return NETS[task.net].inputs


def samples(task: Task) -> list[tuple[Any, ...]]:
    """The calibration data as tensors, in the order of the arguments."""
    import torch

    names = [given.name for given in inputs(task)]
    return [
        tuple(torch.from_numpy(np.ascontiguousarray(row[name])) for name in names)
        for row in task.calibration_samples()
    ]
