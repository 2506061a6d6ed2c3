"""ncnn, converted by pnnx from TorchScript, as ncnn's authors recommend.

int8 models of ncnn are created with the programs ncnn2table and ncnn2int8. They are neither in the wheels of ncnn and
pnnx nor in ncnn's source distribution on PyPI, and Debian 12 has no package of ncnn, so they are not available.
https://github.com/Tencent/ncnn/wiki/quantized-int8-inference
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.kit.processes import ProcessFailed, last_line, run
from benchmarks.peers.contestants import zoo
from benchmarks.peers.protocol import (
    Assignment,
    Contestant,
    LoadedModel,
    Prepared,
    Unsupported,
    distribution_files,
)

NCNN = "1.0.20261020"
PNNX = "20261020"
_TYPES = {"float32": "f32", "int64": "i64", "int32": "i32"}


class Ncnn(Contestant):
    """The wheel with its defaults for layouts, Winograd and matrix products, nothing below fp32."""

    title = "ncnn"
    requirements = (f"ncnn=={NCNN}", f"pnnx=={PNNX}", *zoo.REQUIREMENTS)

    def prepare(self, task: Assignment) -> Prepared:
        """Trace the torch module and let pnnx write ``net.ncnn.param`` and ``net.ncnn.bin``."""
        if task.precision == "int8":
            raise Unsupported("its int8 tools, ncnn2table and ncnn2int8, are in no PyPI or Debian 12 package")
        _convert(task)
        model = (task.folder / "net.ncnn.param", task.folder / "net.ncnn.bin")
        for file in model:
            if not file.is_file():
                raise Unsupported(f"pnnx wrote no {file.name}")
        notes = {"ncnn": NCNN, "pnnx": PNNX, "fp16 and bf16": "off"}
        return Prepared(model, distribution_files("ncnn"), notes)

    def load(self, task: Assignment, prepared: Prepared) -> LoadedModel:
        """Load a net with ``task.threads`` threads, and fp32 in storage and arithmetic."""
        import ncnn

        net = ncnn.Net()
        net.opt.num_threads = task.threads
        net.opt.use_fp16_packed = False
        net.opt.use_fp16_storage = False
        net.opt.use_fp16_arithmetic = False
        net.opt.use_bf16_storage = False
        param, weights = prepared.model
        if net.load_param(str(param)) != 0 or net.load_model(str(weights)) != 0:
            raise Unsupported(
                "ncnn cannot load what pnnx wrote: a layer is unknown to it, or its weights are"
            )
        return _Net(net)


class _Net(LoadedModel):
    """A net and its input matrices. ncnn has no batch dimension: the leading 1 is removed and restored."""

    def __init__(self, net: Any) -> None:
        self._net = net
        self._outputs: list[str] = net.output_names()
        self._inputs: dict[str, Any] = {}
        self._arrays: list[np.ndarray] = []  # the matrices are views of these

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        import ncnn

        # pnnx names the inputs in0, in1 ... in the order of the module's arguments, the same as the ONNX model's.
        self._arrays = [_matrix(value) for value in inputs.values()]
        self._inputs = {f"in{i}": ncnn.Mat(array) for i, array in enumerate(self._arrays)}
        return [np.array(output)[np.newaxis] for output in self.infer()]

    def infer(self) -> list[Any]:
        # An extractor caches its results, so each inference needs a new one.
        extractor = self._net.create_extractor()
        for name, matrix in self._inputs.items():
            extractor.input(name, matrix)
        outputs = []
        for name in self._outputs:
            status, output = extractor.extract(name)
            if status != 0:
                raise Unsupported(f"ncnn cannot compute the output {name}: status {status}")
            outputs.append(output)
        return outputs


def _matrix(value: np.ndarray) -> np.ndarray:
    integer = np.issubdtype(value.dtype, np.integer)
    return np.ascontiguousarray(value[0], np.int32 if integer else np.float32)


def _convert(task: Assignment) -> None:
    import pnnx
    import torch

    path = task.folder / "net.pt"
    torch.jit.trace(zoo.network(task), zoo.samples(task)[0], check_trace=False).save(str(path))
    shapes = [f"[{','.join(map(str, given.shape))}]{_TYPES[given.dtype]}" for given in zoo.inputs(task)]
    command = [pnnx.EXEC_PATH, path.name, f"inputshape={','.join(shapes)}", "fp16=0"]
    try:
        run(command, cwd=task.folder, timeout_s=60 * task.minutes)
    except ProcessFailed as error:
        last = last_line(error.said) or "it said nothing"
        raise Unsupported(f"pnnx {error.how}: {last[:300]}") from None
