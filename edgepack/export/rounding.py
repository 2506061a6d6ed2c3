"""How much the outputs of a model in int8 or float16 change, if values between two steps round the other way.

A board sums in another order than onnxruntime does. Where activations are quantized, such a difference in the last bits
may move a value by a whole step, and later layers carry it on; in float16, each result is rounded to 11 bits. To know
its size, every quantization of the model is shifted by a few millionths and every weight in float16 by half a step, at
random, and the outputs are compared with the unchanged ones.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.temporary import temporary_folder
from edgepack.export.reference import relative_error
from edgepack.onnxfile.sessions import open_session, run_session

if TYPE_CHECKING:
    import numpy as np
    import onnx

_SHIFT = (
    1e-5  # relative: some hundred times the rounding of float32, so that few samples show what many would
)
_DRAWS = 2
_SAMPLES = 16  # at most
_STEP = 1 / 255  # of a range in 8 bits
_HALF = 2.0**-10  # of a float16, relative


def rounding_spread(
    path: Path, feeds: "Sequence[Mapping[str, np.ndarray]]", outputs: "Sequence[Sequence[np.ndarray]]"
) -> float | None:
    """Return the largest change over the outputs, relative to each output's largest value: at least one step.

    ``outputs`` are those of the samples ``feeds``, in order. None if the model has neither quantized activations nor
    weights in float16.

    Raises:
        InputError: as :func:`edgepack.export.reference.open_session`.
    """
    import numpy as np
    import onnx

    worst = 0.0
    chosen = range(min(len(feeds), _SAMPLES))
    with temporary_folder(prefix="edgepack-rounding-") as folder:
        for draw in range(_DRAWS):
            model = onnx.load(path)
            step = _shift(model.graph, np.random.default_rng(draw))
            if step is None:
                return None
            shifted = Path(folder, "model.onnx")
            onnx.save(model, shifted)
            session = open_session(shifted)
            runs = [run_session(session, feeds[index], shifted) for index in chosen]
            for index in range(len(runs[0])):
                ours = np.stack([run[index] for run in runs])
                exact = np.stack([outputs[sample][index] for sample in chosen])
                error = relative_error(ours, exact)
                worst = max(worst, step, error if np.isfinite(error) else 0.0)
    return worst


def _shift(graph: "onnx.GraphProto", rng: "np.random.Generator") -> float | None:
    """Change each rounding of the model a little, in place; returns the size of a step, None if nothing is rounded."""
    import numpy as np
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    step = _HALF if _shift_halves(graph, rng) else None
    for node in graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] in constants or node.input[1] not in constants:
            continue
        step = _STEP
        scale = numpy_helper.to_array(constants[node.input[1]])
        shifted = scale * (1 + _SHIFT * rng.choice([-1, 1]))
        node.input[1] = f"{node.output[0]}/shifted-scale"
        graph.initializer.append(numpy_helper.from_array(np.asarray(shifted, scale.dtype), node.input[1]))
    return step


def _shift_halves(graph: "onnx.GraphProto", rng: "np.random.Generator") -> bool:
    """Move each weight in float16 by half a step up or down, then round it; returns whether there are any."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    found = False
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            found = True
            value = numpy_helper.to_array(tensor).astype(np.float32)
            moved = value * (1 + _HALF / 2 * rng.choice([-1.0, 1.0], value.shape))
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(moved, np.float16), tensor.name))
    return found
