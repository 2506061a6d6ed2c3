"""Build a net of cases for a target: compiled, with its reference, packed as a bundle."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.agent.protocol import PROTOCOL, linking
from edgepack.base.files import sha256_json
from edgepack.bundle.manifest import Contents, InputInfo, RecipeInfo, TargetInfo
from edgepack.config.target import Target
from edgepack.pipeline.emulated_gpu import beside
from edgepack.selftesting import nets
from edgepack.selftesting.cases import TOO_LARGE, CaseNet

if TYPE_CHECKING:
    import numpy as np

NAME = "edgepack-selftest"


@dataclass(frozen=True)
class BuiltNet:
    """A net that can be run on a board: the bundle, its inputs, the outputs it should have, and its GPU kernels."""

    net: CaseNet
    bundle: Path
    inputs: "Mapping[str, np.ndarray]"
    reference: "list[np.ndarray]"
    kernels: tuple[str, ...]


def build(net: CaseNet, target: Target, folder: Path) -> BuiltNet:
    """Compile a net and pack it into a bundle, with the sources of its CUDA kernels beside it.

    Raises:
        EdgepackError: It cannot be compiled or packed on this machine.
    """
    import numpy as np

    from edgepack.bundle.archive import pack
    from edgepack.bundle.files import release_files
    from edgepack.emulation import sources
    from edgepack.export.reference import run_onnx
    from edgepack.lower import compile_model
    from edgepack.lower.phases import executors_for
    from edgepack.toolchain import cubin

    onnx, samples = folder / "model.onnx", folder / "samples.npz"
    inputs = nets.write(net, onnx)
    reference = [] if net is TOO_LARGE else run_onnx(onnx, inputs)
    compiled = compile_model(onnx, target, folder / executors_for(target)[0].file, objects=folder / "model.a")
    arrays = {f"input_{index}": value[None] for index, value in enumerate(inputs.values())}
    arrays |= {f"output_{index}": value[None] for index, value in enumerate(reference)}
    np.savez(samples, allow_pickle=False, **arrays)
    content = {"selftest": net.name}
    contents = Contents(
        name=NAME,
        version="1",
        agent_protocol=PROTOCOL,
        agent_linking=linking(compiled.executor),
        executor=compiled.executor,
        recipe=RecipeInfo(digest=sha256_json(content), content=content),
        target=TargetInfo.of(target),
        inputs=tuple(InputInfo(name=x.name, shape=x.shape, dtype=x.dtype) for x in compiled.inputs),
        outputs=compiled.outputs,
        constants=compiled.constants,
    )
    files = release_files(
        contents.target,
        compiled.path,
        samples,
        weights=compiled.weights,
        kernels=compiled.calls.to_bytes(),
        objects=compiled.objects,
        executor=compiled.executor,
        runtime=compiled.runtime,
    )
    bundle = pack(folder / f"{net.name}.edgepack", contents, files)
    if target.gpu:
        sources.write(beside(bundle), compiled.sources)
    kernels = tuple(kernel.name for kernel in cubin.kernels(compiled.path))
    return BuiltNet(net, bundle, inputs, reference, kernels)
