"""Weights of an .onnx file as integers: written, and which of them are too sensitive to it."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.temporary import temporary_folder
from edgepack.compression.method import Context
from edgepack.compression.quantization.encoding import BLOCK_OPSET, encode
from edgepack.compression.quantization.feeds import feeds_of
from edgepack.compression.quantization.rounded import RoundedWeight
from edgepack.compression.selection import Skip, skipped
from edgepack.compression.sensitive import COMPARED, noise_alone
from edgepack.onnxfile import canonicalise, load_onnx, save_onnx
from edgepack.onnxfile.encodings import decoders
from edgepack.onnxfile.opset import raised
from edgepack.onnxfile.sessions import open_session, run_session

if TYPE_CHECKING:
    import numpy as np
    import onnx

_NIBBLE = 4  # bits; fewer are packed into bytes, by operators that older opsets have
_BYTE = 8


def sensitive_weights(
    model: Path, plans: Mapping[str, RoundedWeight], skip: Skip, context: Context, method: str
) -> dict[str, str]:
    """Return the weights, of those in ``plans``, that ``skip`` leaves alone by measurement, with the reason.

    Raises:
        InputError: there are no samples, or they do not fit the model.
    """
    if isinstance(skip, tuple):
        return {}

    def noise() -> dict[str, float]:
        feeds = feeds_of(
            load_onnx(model).graph, context, model, samples=COMPARED, seed=0, method=method
        ).batches

        def outputs(path: Path) -> "list[np.ndarray]":
            import numpy as np

            session = open_session(path)
            runs = [run_session(session, feed, path) for feed in feeds]
            return [np.stack(each) for each in zip(*runs, strict=True)]

        with temporary_folder(prefix="edgepack-quantize-") as folder:

            def alone(name: str) -> "list[np.ndarray]":
                path = Path(folder) / "alone.onnx"
                save_onnx(encoded(load_onnx(model), {name: plans[name]}, str(model)), path)
                return outputs(path)

            return noise_alone(outputs(model), {name: partial(alone, name) for name in plans}, context)

    names = {name: plan.weight.names for name, plan in plans.items()}
    return skipped(skip, names, noise, kind="layer or node", where=f"compress, {method}, skip")


def none_left(model: "onnx.ModelProto") -> str:
    """Why a model has no weights that may become integers."""
    return "an earlier step has encoded its weights" if decoders(model) else "no weight is float32"


def encoded(model: "onnx.ModelProto", plans: Mapping[str, RoundedWeight], where: str) -> "onnx.ModelProto":
    """Return the model, in canonical form and a later opset if need be, with weights as integers.

    Raises:
        InputError: the opset cannot be raised.
    """
    blocks = any(plan.form.block and plan.grid.bits == _BYTE for plan in plans.values())
    if blocks or any(plan.grid.bits == _NIBBLE for plan in plans.values()):
        model = raised(model, BLOCK_OPSET, where)
    for name, plan in plans.items():
        encode(model, name, plan.integers, plan.grid, plan.form)
    return canonicalise(model)
