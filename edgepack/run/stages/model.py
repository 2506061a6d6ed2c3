"""The stages that work on the model: train or load, compress, export, evaluate."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from edgepack.compress import METHODS, CompressStep
from edgepack.engine.stage import Made, Output, Stage, Work
from edgepack.spec import Data, Input, Model

if TYPE_CHECKING:
    import numpy as np

    from edgepack.compress.method import Context
    from edgepack.data import Splits

RANDOM_SAMPLES = 4  # inputs made up for parity, where the recipe has no data
_STEP: TypeAdapter[CompressStep] = TypeAdapter(CompressStep)


def _model(work: Work) -> Model:
    return Model.model_validate_json(json.dumps(work.spec["model"]))


def _inputs(values: Any) -> tuple[Input, ...]:
    return tuple(Input.model_validate_json(json.dumps(value)) for value in values)


def _data(work: Work) -> "Splits | None":
    """The recipe's samples. What they are made from is part of the key, so the arrays need not be stored."""
    from edgepack.data import load_data

    if work.spec["data"] is None:
        return None
    return load_data(Data.model_validate_json(json.dumps(work.spec["data"])), work.resources["base"])


def _required_data(work: Work) -> "Splits":
    from edgepack.errors import InputError

    data = _data(work)
    if data is None:
        raise InputError(
            "this step needs data and the recipe has none", next="add a data block to the recipe"
        )
    return data


def _progress(work: Work) -> Callable[[str, float], None]:
    report: Callable[[str, float], None] = work.resources["advanced"]
    return report


def _checkpoint(work: Work, module: Any, name: str) -> dict[str, Output]:
    from edgepack.torchnet import checkpoint

    path = work.scratch / "model.safetensors"
    checkpoint.save(module, path)
    return {"checkpoint": Output(path, "checkpoint", f"{name}.safetensors")}


def _figures(module: Any, inputs: tuple[Input, ...], data: "Splits | None") -> dict[str, Any]:
    """Parameters, MACs and test accuracy of a torch module."""
    from edgepack.torchnet.layers import count_module, example_inputs
    from edgepack.torchnet.training import accuracy

    counts = count_module(module, example_inputs(inputs))
    return {
        "parameters": counts.parameters,
        "macs": counts.macs,
        "accuracy": None if data is None else accuracy(module, data.x_test, data.y_test),
    }


def _restored(work: Work) -> Any:
    from edgepack.torchnet import checkpoint

    source = _model(work).model_copy(update={"weights": None})
    return checkpoint.restore(
        checkpoint.load_source(source, work.resources["base"]), work.inputs["checkpoint"]
    )


def _train(work: Work) -> Made:
    """Build the source network and train it: the recipe's own first step."""
    import torch

    from edgepack.torchnet import checkpoint
    from edgepack.torchnet.training import train

    model, data = _model(work), _required_data(work)
    if model.train is None:
        raise ValueError("the train stage needs model.train")
    torch.manual_seed(model.train.seed)
    module = checkpoint.load_source(model, work.resources["base"])
    trained = train(module, data, model.train, _progress(work))
    figures = {**_figures(module, model.inputs, data), "training": dict(trained)}
    return Made(_checkpoint(work, module, "trained"), figures)


def _load(work: Work) -> Made:
    """Load the model as it comes: a torch source with its weights, or an .onnx file."""
    from edgepack.onnxfile.importing import import_onnx
    from edgepack.torchnet import checkpoint

    model, base = _model(work), work.resources["base"]
    if model.onnx is not None:
        path = work.scratch / "model.onnx"
        inputs = import_onnx(base / model.onnx, model.inputs, path)
        figures = {"inputs": [i.model_dump(mode="json") for i in inputs]}
        return Made({"onnx": Output(path, "onnx", "model.onnx")}, figures)
    module = checkpoint.load_source(model, base)
    return Made(_checkpoint(work, module, "loaded"), _figures(module, model.inputs, _data(work)))


def _context(work: Work) -> "Context":
    from edgepack.compress.method import Context

    return Context(inputs=_inputs(work.spec["inputs"]), data=_data(work), progress=_progress(work))


def _compress_torch(work: Work) -> Made:
    """One compression step on the torch module."""
    step = _STEP.validate_json(json.dumps(work.spec["step"]))
    context = _context(work)
    result = METHODS[step.method].apply(_restored(work), step, context)
    figures = {**_figures(result.module, context.inputs, context.data), "step": dict(result.metrics)}
    return Made(_checkpoint(work, result.module, step.method), figures)


def _export(work: Work) -> Made:
    """Torch to ONNX, checked against onnxruntime."""
    import numpy as np

    from edgepack.export import parity, to_onnx
    from edgepack.torchnet.layers import example_inputs

    module = _restored(work)
    inputs = _inputs(work.spec["inputs"])
    path = to_onnx(module, inputs, work.scratch / "model.onnx")
    error = parity(module, path, [np.asarray(x) for x in example_inputs(inputs, seed=1)])
    return Made({"onnx": Output(path, "onnx", "model.onnx")}, {"torch_parity": error})


def _compress_onnx(work: Work) -> Made:
    """One compression step on the ONNX file."""
    step = _STEP.validate_json(json.dumps(work.spec["step"]))
    out = work.scratch / "model.onnx"
    metrics = METHODS[step.method].apply(work.inputs["onnx"], out, step, _context(work))
    figures = {**_onnx_figures(out, _data(work)), "step": dict(metrics)}
    return Made({"onnx": Output(out, "onnx", f"{step.method}.onnx")}, figures)


def _onnx_figures(path: Any, data: "Splits | None") -> dict[str, Any]:
    from edgepack.export import evaluate
    from edgepack.onnxfile.counting import count

    counts = count(path)
    return {
        "parameters": counts.parameters,
        "macs": counts.macs,
        "size": counts.size,
        "accuracy": None if data is None else evaluate(path, data.x_test, data.y_test),
    }


def _evaluate(work: Work) -> Made:
    """What onnxruntime says of the model, and samples with its outputs, to hold the board against."""
    import numpy as np

    from edgepack.export import run_onnx

    path = work.inputs["onnx"]
    data = _data(work)
    inputs = _inputs(work.spec["inputs"])
    arrays = _samples(inputs, data)
    count = len(next(iter(arrays.values())))
    runs = [run_onnx(path, {name: x[i] for name, x in arrays.items()}) for i in range(count)]
    saved = {f"input_{i}": arrays[given.name] for i, given in enumerate(inputs)}
    saved |= {f"output_{i}": np.stack([run[i] for run in runs]) for i in range(len(runs[0]))}
    batch = inputs[0].shape[0]
    if data is not None:
        saved["labels"] = data.y_test[: count * batch].reshape(count, batch)
    samples = work.scratch / "samples.npz"
    np.savez(samples, allow_pickle=False, **saved)
    figures = {
        **_onnx_figures(path, data),
        "samples": count,
        "classes": list(data.classes) if data is not None else [],
        "vocabulary": list(data.vocabulary) if data is not None else [],
    }
    return Made({"samples": Output(samples, "samples", "samples.npz")}, figures)


def _samples(inputs: tuple[Input, ...], data: "Splits | None") -> "dict[str, np.ndarray]":
    """Inputs by name, each ``[N, *shape]``: the test split in batches, or seeded random numbers."""
    import numpy as np

    if data is not None:
        (given,) = inputs
        batch = given.shape[0]
        count = len(data.x_test) // batch
        x = data.x_test[: count * batch].reshape(count, *given.shape)
        return {given.name: x.astype(given.dtype)}
    rng = np.random.default_rng(0)
    made: dict[str, np.ndarray] = {}
    for given in inputs:
        shape = (RANDOM_SAMPLES, *given.shape)
        floating = given.dtype.startswith("float")
        made[given.name] = (
            rng.standard_normal(shape).astype(given.dtype) if floating else np.zeros(shape, given.dtype)
        )
    return made


_TORCH_TOOLS = ("torch", "numpy", "scikit-learn", "safetensors", "pillow")
_ONNX_TOOLS = ("onnx", "onnxscript", "onnxruntime", "numpy", "scikit-learn", "pillow")
_MODEL_CODE = (
    "torchnet",
    "data",
    "export",
    "onnxfile",
    "run/stages/model.py",
    "zoo",
)
_STEP_CODE = ("compress", "torchnet", "data", "export", "onnxfile", "run/stages/model.py", "zoo")

TRAIN = Stage("train", 1, _TORCH_TOOLS, _MODEL_CODE, _train)
LOAD = Stage("load", 1, (*_TORCH_TOOLS, *_ONNX_TOOLS), _MODEL_CODE, _load)
COMPRESS_TORCH = Stage("compress", 1, _TORCH_TOOLS, _STEP_CODE, _compress_torch)
EXPORT = Stage("export", 1, (*_TORCH_TOOLS, *_ONNX_TOOLS), _MODEL_CODE, _export)
COMPRESS_ONNX = Stage("compress", 1, _ONNX_TOOLS, _STEP_CODE, _compress_onnx)
EVALUATE = Stage(
    "evaluate",
    1,
    _ONNX_TOOLS,
    ("torchnet/layers.py", "data", "export", "onnxfile", "run/stages/model.py", "zoo"),
    _evaluate,
)
