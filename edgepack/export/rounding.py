"""How much a quantized model's outputs change, if values between two steps of a quantization round the other way.

A board sums in another order than onnxruntime does. Where activations are quantized, such a difference in the last bits
may move a value by a whole step, and later layers carry it on. To know its size, every quantization of the model is
shifted by a few millionths, once for each draw, and the outputs are compared with the unchanged ones.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.temporary import temporary_folder
from edgepack.export.reference import open_session, relative_error, run_session

if TYPE_CHECKING:
    import numpy as np
    import onnx

_SHIFT = (
    1e-5  # relative: some hundred times the rounding of float32, so that few samples show what many would
)
_DRAWS = 2
_SAMPLES = 32  # at most
_STEP = 1 / 255  # of a range in 8 bits


def rounding_spread(
    path: Path, feeds: "Sequence[Mapping[str, np.ndarray]]", outputs: "Sequence[Sequence[np.ndarray]]"
) -> float | None:
    """Return the largest change over the outputs, relative to each output's largest value: at least one step of 8 bits.

    ``outputs`` are those of the samples ``feeds``, in order. None if no activation of the model is quantized.

    Raises:
        InputError: as :func:`edgepack.export.reference.open_session`.
    """
    import numpy as np
    import onnx

    worst = None
    chosen = range(min(len(feeds), _SAMPLES))
    with temporary_folder(prefix="edgepack-rounding-") as folder:
        for draw in range(_DRAWS):
            model = onnx.load(path)
            if not _shift(model.graph, np.random.default_rng(draw)):
                return None
            shifted = Path(folder, "model.onnx")
            onnx.save(model, shifted)
            session = open_session(shifted)
            runs = [run_session(session, feeds[index], shifted) for index in chosen]
            for index in range(len(runs[0])):
                ours = np.stack([run[index] for run in runs])
                exact = np.stack([outputs[sample][index] for sample in chosen])
                error = relative_error(ours, exact)
                worst = max(worst or _STEP, error if np.isfinite(error) else 0.0)
    return worst


def _shift(graph: "onnx.GraphProto", rng: "np.random.Generator") -> bool:
    """Scale each quantization of an activation by a factor near 1, in place; returns whether there is one."""
    import numpy as np
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    found = False
    for node in graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] in constants or node.input[1] not in constants:
            continue
        found = True
        scale = numpy_helper.to_array(constants[node.input[1]])
        shifted = scale * (1 + _SHIFT * rng.choice([-1, 1]))
        node.input[1] = f"{node.output[0]}/shifted-scale"
        graph.initializer.append(numpy_helper.from_array(np.asarray(shifted, scale.dtype), node.input[1]))
    return found
