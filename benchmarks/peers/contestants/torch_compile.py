"""``torch.compile`` for the CPU: Inductor with freezing, each precision as in its tutorial.

fp32 is max-autotune: https://docs.pytorch.org/tutorials/unstable/max_autotune_on_CPU_tutorial.html
int8 is PyTorch 2 Export quantization with torchao's quantizer for Inductor on x86, static for images and features,
dynamic for token ids, and the default mode: https://docs.pytorch.org/ao/stable/tutorials_source/pt2e_quant_x86_inductor.html

A compiled module cannot be saved, so loading compiles again; Inductor's cache folder, with compiled
kernels and autotuning results, is filled by ``prepare`` and used by ``load``.
"""

import os
import re
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.contestants import zoo
from benchmarks.peers.protocol import (
    Assignment,
    Contestant,
    LoadedModel,
    Prepared,
    Unsupported,
    distribution_files,
)

_MODES = {"fp32": "max-autotune-no-cudagraphs", "int8": "default"}
_RECURRENT = re.compile(r"aten\.(lstm|gru|rnn)")
_NEEDED = ("torch", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "fsspec", "filelock")
_IMPORTED = (*_NEEDED, "typing_extensions", "setuptools")


class TorchCompile(Contestant):
    """``torch.compile(module)`` in inference mode."""

    title = "torch.compile"
    requirements = ("torchao==0.18.0", "platformdirs==4.14.7", *zoo.REQUIREMENTS)
    threads_share = False

    def prepare(self, task: Assignment) -> Prepared:
        """Quantize if requested, and compile once to fill the cache."""
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise Unsupported(f"Inductor needs a C++ compiler, and there is no {compiler}")
        torch = _torch(task)
        mode = f"{_MODES[task.precision]}, freezing"
        notes = {"torch": torch.__version__, "mode": mode, "compiler": compiler}
        exact = None
        if task.precision == "int8":
            module, notes["quantization"] = _quantize(task)
            exact = zoo.save_exact(task, module)
        session = self.load(task, Prepared((), ()))
        session.run(task.calibration_samples()[0])
        saved = _exported_path(task) if task.precision == "int8" else task.weights
        cache = (path for path in _cache(task).rglob("*") if path.is_file())
        runtime = distribution_files(*_IMPORTED, *(["torchao"] if task.precision == "int8" else []))
        return Prepared((saved, *sorted(cache)), runtime, notes, exact)

    def load(self, task: Assignment, prepared: Prepared) -> LoadedModel:  # noqa: ARG002 - paths follow from the task
        """Build the network with its weights, and compile it with a first inference."""
        torch = _torch(task)
        if task.precision == "int8":
            import torchao.quantization.pt2e.quantize_pt2e  # noqa: F401 - registers the operators

            module = torch.export.load(_exported_path(task)).module()
        else:
            module = zoo.network(task)
        compiled = torch.compile(module, mode=_MODES[task.precision])
        session = _Compiled(compiled, [given.name for given in zoo.inputs(task)])
        session.run({given.name: np.zeros(given.shape, given.dtype) for given in zoo.inputs(task)})
        return session


class _Compiled(LoadedModel):
    """A compiled module, which is compiled at its first inference."""

    def __init__(self, compiled: Any, names: list[str]) -> None:
        self._compiled = compiled
        self._names = names

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        import torch

        tensors = [torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in self._names]
        self.infer = partial(self._compiled, *tensors)  # guards and all
        with torch.inference_mode():
            outputs = self.infer()
        return [tensor.numpy() for tensor in ([outputs] if isinstance(outputs, torch.Tensor) else outputs)]

    def time(self, runs: int) -> list[int]:
        import torch

        with torch.inference_mode():
            return super().time(runs)


def _torch(task: Assignment) -> Any:
    """Configure torch with ``task.threads`` threads, and Inductor to compile in this process without helpers."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(_cache(task))
    import torch
    import torch._inductor.config as inductor

    torch.set_num_threads(task.threads)
    inductor.freezing = True
    inductor.compile_threads = 1
    return torch


def _quantize(task: Assignment) -> tuple[Any, str]:
    """Quantize the network and save it as an exported program; returns the module and a description."""
    import torch
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    samples = zoo.samples(task)
    dynamic = not any(tensor.is_floating_point() for tensor in samples[0])
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_dynamic=dynamic))
    with torch.no_grad():
        module = torch.export.export(zoo.network(task), samples[0]).module()
        recurrent = {str(node.target) for node in module.graph.nodes if _RECURRENT.match(str(node.target))}
        if recurrent:
            raise Unsupported(f"X86InductorQuantizer has no pattern for {', '.join(sorted(recurrent))}")
        module = prepare_pt2e(module, quantizer)
        for sample in samples:
            module(*sample)
        module = convert_pt2e(module)
        move_exported_model_to_eval(module)
        count = sum("quantize_per_channel" in str(node.target) for node in module.graph.nodes)
        if not count:
            raise Unsupported("X86InductorQuantizer finds no layer to quantize")
        torch.export.save(torch.export.export(module, samples[0]), _exported_path(task))
    how = f"PT2E, X86InductorQuantizer, {'dynamic' if dynamic else 'static'}, {count} weights per channel"
    return module, how


def _cache(task: Assignment) -> Path:
    return task.folder / "inductor"


def _exported_path(task: Assignment) -> Path:
    return task.folder / "quantized.pt2"
