"""ExecuTorch with its XNNPACK delegate; int8 by PT2E with ``XNNPACKQuantizer``.

The model is converted as in ExecuTorch's documentation of that backend: ``torch.export``,
``to_edge_transform_and_lower`` with ``XnnpackPartitioner``, a .pte file. int8 is the quantization documented there
for convolutional and linear networks: static, symmetric per-channel weights, asymmetric 8-bit
activations. https://docs.pytorch.org/executorch/stable/backends/xnnpack/xnnpack-quantization.html
"""

from collections.abc import Mapping, Sequence
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

# Single operators in the exported program, which XNNPACKQuantizer does not decompose.
_RECURRENT = {"lstm", "gru"}


class Executorch(Contestant):
    """The wheel's Python binding of the C++ runtime, with its built-in XNNPACK delegate."""

    title = "ExecuTorch (XNNPACK)"
    requirements = ("executorch==1.5.1", "torchao==0.18.0", *zoo.REQUIREMENTS)

    def prepare(self, task: Assignment) -> Prepared:
        """Write ``model.pte``."""
        import executorch.version
        import torch
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.devtools.backend_debug import get_delegation_info
        from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
        from executorch.exir.passes import MemoryPlanningPass

        notes: dict[str, Any] = {"executorch": executorch.version.__version__, "torch": torch.__version__}
        samples = zoo.samples(task)
        program = torch.export.export(zoo.network(task), samples[0])
        exact = None
        if task.precision == "int8":
            program, quantized = _quantize(program, samples)
            notes |= quantized
            exact = zoo.save_exact(task, program.module())
        edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        notes |= _delegation(get_delegation_info(edge.exported_program().graph_module))
        # Inputs stay in the caller's memory: memory planned for them would be overwritten by each run.
        plan = MemoryPlanningPass(alloc_graph_input=False)
        model = task.folder / "model.pte"
        model.write_bytes(edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=plan)).buffer)
        # The binding and the libraries it links to: ExecuTorch's and torch's, without the exporter.
        own = [
            path
            for path in distribution_files("executorch")
            if path.parent.name in {"lib", "pybindings"} and ".so" in path.name
        ]
        native = [path for path in own if path.parent.name == "lib" and "executorch" in path.name]
        notes["runtime_without_python_and_torch_bytes"] = sum(path.stat().st_size for path in native)
        return Prepared((model,), (*own, *distribution_files("torch", "typing_extensions")), notes, exact)

    def load(self, task: Assignment, prepared: Prepared) -> LoadedModel:
        """Load the method ``forward``, with ``task.threads`` threads in the pool shared by delegate and kernels.

        The binding is imported without its wrapper, ``executorch.runtime``, whose import also loads the exporter.
        """
        import torch  # the binding's libraries link to torch's
        from executorch.extension.pybindings import _C as binding  # noqa: N811

        torch.set_num_threads(task.threads)
        binding._unsafe_reset_threadpool(task.threads)  # noqa: SLF001 - the only call there is
        if (count := binding._threadpool_get_thread_count()) != task.threads:  # noqa: SLF001
            raise Unsupported(f"its thread pool has {count} threads, whatever is requested")
        program = binding._load_program(str(prepared.model[0]))  # noqa: SLF001 - all are named so
        return _Method(program, program.load_method("forward"))


class _Method(LoadedModel):
    """A method whose inputs are set."""

    def __init__(self, program: Any, method: Any) -> None:
        self._program = program  # keeps the method's data alive
        self._method = method
        self.infer = method.execute
        self._inputs: list[Any] = []

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        import torch

        self._inputs = [torch.from_numpy(np.ascontiguousarray(value)) for value in inputs.values()]
        self._method.set_inputs(self._inputs)
        self._method.execute()
        return [output.numpy() for output in self._method.get_outputs()]  # copies


def _quantize(program: Any, samples: Sequence[tuple[Any, ...]]) -> tuple[Any, dict[str, Any]]:
    """Insert quantize and dequantize operators; also return what was quantized.

    Raises:
        Unsupported: No relevant operator was quantized.
    """
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    observed = prepare_pt2e(program.module(), quantizer)
    operators = _operators(observed.graph)
    if recurrent := _RECURRENT & {name for name, _ in operators}:
        raise Unsupported(f"XNNPACKQuantizer leaves {' and '.join(sorted(recurrent))} in fp32")
    notes = zoo.by_precision(operators, "XNNPACKQuantizer")
    with torch.no_grad():
        for sample in samples:
            observed(*sample)
    how = "static PT2E, symmetric per-channel s8 weights, asymmetric s8 activations"
    return torch.export.export(convert_pt2e(observed), samples[0]), {"quantization": how, **notes}


def _operators(graph: Any) -> list[tuple[str, bool]]:
    """Return each operator, and whether the quantizer annotated it."""
    quantized = []
    for node in graph.nodes:
        if node.op == "call_function" and str(node.target).startswith("aten."):
            annotation = node.meta.get("quantization_annotation")
            taken = annotation is not None and annotation._annotated  # noqa: SLF001 - named so
            quantized.append((str(node.target).split(".")[1], taken))
    return quantized


def _delegation(info: Any) -> dict[str, Any]:
    """Return what is computed by XNNPACK and what by ExecuTorch's own kernels."""
    own = {
        name: count.non_delegated
        for name, count in info.delegation_by_operator.items()
        if count.non_delegated and name != "getitem"
    }
    return {
        "xnnpack_subgraphs": info.num_delegated_subgraphs,
        "xnnpack_nodes": info.num_delegated_nodes,
        "nodes_outside_xnnpack": own,
    }
