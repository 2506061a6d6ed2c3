"""LiteRT (formerly TensorFlow Lite); converted by litert-torch, int8 by ai-edge-quantizer.

This is LiteRT's documented path from PyTorch: https://developers.google.com/edge/litert/conversion/pytorch
int8 is the quantizer's recipe ``static_wi8_ai8`` (symmetric per-channel s8 weights, asymmetric
s8 activations). Inputs and outputs keep the types of the fp32 model, as for other contestants. One default is
changed: the quantizer averages the ranges of the samples, giving most weight to the first, and so clips
other samples; here it uses the widest range, its own ``min_max_update``, as other contestants' calibration does.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.contestants import zoo
from benchmarks.peers.protocol import Assignment, Contestant, LoadedModel, Prepared, distribution_files

_SIGNATURE = "serving_default"
_FREE = {"DELEGATE", "QUANTIZE", "DEQUANTIZE", "RESHAPE", "TRANSPOSE", "CAST"}  # no arithmetic to count


class Litert(Contestant):
    """The interpreter of the ``ai-edge-litert`` wheel with its default delegate, XNNPACK."""

    title = "LiteRT"
    requirements = (
        "litert-torch==0.10.0",
        "litert-converter==0.5.0",
        "ai-edge-litert==2.3.0",
        "ai-edge-quantizer==0.10.0",
        "torch==2.13.0",
        "torchao==0.18.0",
        "jax==0.10.2",
        "numpy==2.4.6",
        "pyyaml==6.0.3",  # edgepack.zoo's
        "pydantic==2.11.10",  # edgepack.zoo's; newer ones want a newer typing_extensions than litert-torch's xdsl
        "typing_extensions==4.12.2",  # from here on: what pip would also choose, after many minutes of search
        "typing-inspection==0.4.2",
        "anyio==4.14.2",
        "kagglehub==1.0.2",
        "kagglesdk==0.1.37",
        "transformers==5.23.0",
    )

    def prepare(self, task: Assignment) -> Prepared:
        """Write ``fp32.tflite``, and ``int8.tflite`` from it."""
        from importlib.metadata import version

        names = ("ai-edge-litert", "litert-torch", "litert-converter", "ai-edge-quantizer", "torch")
        notes: dict[str, Any] = {name: version(name) for name in names}
        model = task.folder / "fp32.tflite"
        import litert_torch

        litert_torch.convert(zoo.network(task), zoo.samples(task)[0]).export(str(model))
        if task.precision == "int8":
            fp32, model = model, task.folder / "int8.tflite"
            notes["quantization"] = _quantize(task, fp32, model)
            fp32.unlink()
        # A ``DELEGATE`` represents each part delegated to XNNPACK. There is no other list of them.
        nodes = list(_interpreter(model)._get_ops_details())  # noqa: SLF001
        if task.precision == "int8":
            notes |= _integer(nodes)
        notes |= _delegation(nodes)
        if any(value.dtype == np.int64 for value in task.calibration_samples()[0].values()):
            notes["inputs"] = "int32 where the network has int64: litert-torch narrows them"
        exact = (
            task.save_exact(_Interpreter(_interpreter(model, reference=True)).run)
            if task.precision == "int8"
            else None
        )
        return Prepared((model,), distribution_files("ai-edge-litert"), notes, exact)

    def load(self, task: Assignment, prepared: Prepared) -> LoadedModel:
        """Create an interpreter, which uses XNNPACK, with ``task.threads`` threads."""
        return _Interpreter(_interpreter(prepared.model[0], task.threads))


def _interpreter(model: Path, threads: int | None = None, *, reference: bool = False) -> Any:
    """Create an interpreter with XNNPACK, or with LiteRT's ``reference`` kernels in plain C++."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
    interpreter = Interpreter(str(model), num_threads=threads, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    return interpreter


class _Interpreter(LoadedModel):
    """An interpreter with its tensors allocated."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self.infer = interpreter.invoke
        runner = interpreter.get_signature_runner(_SIGNATURE)
        # litert-torch names them args_0, output_0 etc., in the order of the torch module.
        self._inputs = _in_order(runner.get_input_details())
        self._outputs = _in_order(runner.get_output_details())

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        for detail, value in zip(self._inputs, inputs.values(), strict=True):
            self._interpreter.set_tensor(detail["index"], value.astype(detail["dtype"], copy=False))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(detail["index"]) for detail in self._outputs]  # copies


def _in_order(details: Mapping[str, Any]) -> list[Any]:
    return [details[name] for name in sorted(details, key=lambda name: int(name.rpartition("_")[2]))]


def _quantize(task: Assignment, fp32: Path, out: Path) -> str:
    """Write the int8 model and describe how it was quantized."""
    from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe, recipe_manager
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    out.unlink(missing_ok=True)
    details = _in_order(_interpreter(fp32).get_signature_runner(_SIGNATURE).get_input_details())
    samples = [
        {
            f"args_{i}": value.astype(detail["dtype"])
            for i, (detail, value) in enumerate(zip(details, row.values(), strict=True))
        }
        for row in task.calibration_samples()
    ]
    work = quantizer.Quantizer(str(fp32), recipe.static_wi8_ai8())
    for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        work.update_quantization_recipe(".*", end, algorithm_key=AlgorithmName.NO_QUANTIZE)
    rules = recipe_manager.RecipeManager()
    rules.load_quantization_recipe(work.get_quantization_recipe())
    # Same as work.calibrate, except for how ranges of samples are merged.
    ranges = calibrator.Calibrator(
        fp32.read_bytes(),
        num_threads=task.threads,
        mode=calibrator.CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS,
        qsv_update_func=min_max_update,
    )
    ranges.calibrate({_SIGNATURE: samples}, rules)
    work.quantize(ranges.get_model_qsvs()).export_model(str(out))
    return "static_wi8_ai8: per-channel s8 weights, s8 activations, min-max instead of averaged ranges"


def _integer(nodes: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Count operators that read int8 values or weights, and those left in fp32."""
    counted = [node for node in nodes if node["op_name"] not in _FREE]
    return zoo.by_precision(
        ((node["op_name"], np.int8 in node["operand_types"]) for node in counted), "ai-edge-quantizer"
    )


def _delegation(nodes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is computed by XNNPACK and what by LiteRT's own kernels.

    A delegate's node lists its inputs and outputs; the nodes in between are those it replaces.
    """
    own = [node for node in nodes if node["op_name"] != "DELEGATE"]
    parts = [node for node in nodes if node["op_name"] == "DELEGATE"]
    maker = {int(tensor): node for node in own for tensor in node["outputs"]}
    taken: set[int] = set()
    for part in parts:
        ends = {int(tensor) for tensor in part["inputs"]}
        wanted = [int(tensor) for tensor in part["outputs"]]
        while wanted:
            node = maker.get(wanted.pop())
            if node is not None and node["index"] not in taken:
                taken.add(node["index"])
                wanted += [int(tensor) for tensor in node["inputs"] if int(tensor) not in ends]
    left = Counter(node["op_name"] for node in own if node["index"] not in taken)
    return {
        "xnnpack_subgraphs": len(parts),
        "xnnpack_nodes": len(taken),
        "nodes_outside_xnnpack": dict(left),
    }
