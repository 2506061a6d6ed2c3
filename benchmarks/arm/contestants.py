"""What is counted: edgepack's build and onnxruntime's wheel, each running one net in the emulator, one thread.

Counted is the third inference, with everything in place. onnxruntime's stands between two marks. edgepack's is what
its agent executes more when it runs the model three times instead of twice; loading, the first inferences and the
end are in both, and what differs else is another line on stdout.
"""

import importlib.metadata
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arm import counter, tools, userland
from benchmarks.arm.counter import Profile
from benchmarks.kit.correctness import distance
from benchmarks.kit.nets import Artifacts
from edgepack.config.target import load_target
from edgepack.errors import EdgepackError
from edgepack.remote.virtual.kinds import KINDS

_WORKER = Path(__file__).with_name("onnxruntime_worker.py")
_LIBRARY = "libonnxruntime.so"


@dataclass(frozen=True)
class Measured:
    """One contender on one net and core."""

    name: str
    version: str
    inference: Profile  # executed in one inference
    error: float | None  # relative, of the outputs against onnxruntime's on this machine; None: not finite
    model_bytes: int
    runtime_bytes: int  # what has to be on the board beside the model, without Python
    notes: str


def edgepack(
    net: Artifacts, target: str, board: Path, folder: Path, records: Path | None
) -> tuple[Measured, Path]:
    """Compile for the target and count the agent; returns the compiled model, too.

    Raises:
        EdgepackError: The model cannot be compiled or run, or its outputs are wrong.
    """
    from edgepack.agent.build import build_agent
    from edgepack.bundle.runtime import needs_extra, runtime_libs
    from edgepack.lower import compile_model

    built = load_target(target)
    model = folder / "model" / "model.so"
    compiled = compile_model(net.onnx, built, model, records=records)
    agent = folder / "bin" / "edgepack-agent"
    agent.parent.mkdir(parents=True)
    shutil.copy2(build_agent(built.abi.arch, built.abi.libc), agent)
    (folder / "lib").mkdir()
    for name, path in runtime_libs(built.abi.arch, cuda=False, extra=needs_extra(model)).items():
        shutil.copy2(path, folder / "lib" / name)
    inputs = []
    with np.load(net.inputs, allow_pickle=False) as arrays:
        for index, tensor in enumerate(compiled.inputs):
            inputs += ["--input", str(folder / f"input-{index}.npy")]
            np.save(inputs[-1], np.ascontiguousarray(arrays[tensor.name][-1]), allow_pickle=False)
    common = ["--model", str(model), *inputs, "--threads", "1"]

    # The agent's first inference is none of these runs.
    bench = [str(agent), "bench", *common, "--warmup", "0", "--runs"]
    fewer, more = (
        counter.count([*bench, str(runs)], cpu=_cpu(target), root=board, environment={}) for runs in (1, 2)
    )
    outputs = folder / "outputs"
    tools.output([*_emulator(target, board), str(agent), "run", *common, "--output-dir", str(outputs)])
    got = [np.load(outputs / f"output-{i}.npy") for i in range(len(compiled.outputs))]
    tuned = sum(kernel.tuned for kernel in compiled.kernels)
    measured = Measured(
        name="edgepack",
        version=importlib.metadata.version("edgepack"),
        inference=more - fewer,
        error=_error(net, got),
        model_bytes=model.stat().st_size,
        runtime_bytes=sum(path.stat().st_size for path in (agent, *(folder / "lib").iterdir())),
        notes=f"{tuned} of {len(compiled.kernels)} kernels tuned",
    )
    return measured, model


def onnxruntime(net: Artifacts, target: str, board: Path, folder: Path) -> Measured:
    """Count the aarch64 wheel through its Python interface, with inputs and outputs bound.

    Raises:
        EdgepackError: It cannot run, or its outputs are wrong.
    """
    python, environment = userland.python()
    inputs, outputs = folder / "inputs.npz", folder / "outputs.npz"
    with np.load(net.inputs, allow_pickle=False) as arrays:
        np.savez(inputs, **{name: arrays[name][-1] for name in arrays.files})

    argv = [python, str(_WORKER), str(net.onnx), str(inputs), str(outputs)]
    inference = counter.count(argv, cpu=_cpu(target), root=board, environment=environment)
    with np.load(outputs, allow_pickle=False) as arrays:
        got = [arrays[f"output-{i}"] for i in range(len(arrays.files))]
    folder_of_library = userland.ensure() / userland.SITE / "onnxruntime" / "capi"
    (library,) = folder_of_library.glob(f"{_LIBRARY}.*")
    return Measured(
        name="onnxruntime",
        version=library.name.removeprefix(f"{_LIBRARY}."),
        inference=inference,
        error=_error(net, got),
        model_bytes=net.onnx.stat().st_size,
        runtime_bytes=library.stat().st_size,
        notes="aarch64 wheel, CPU execution provider, all optimizations",
    )


def _cpu(target: str) -> str:
    cpu = KINDS[target].qemu_cpu
    if cpu is None:
        raise EdgepackError(f"{target} is not emulated", next=f"targets: {', '.join(targets())}")
    return cpu


def targets() -> list[str]:
    """The targets with a core to emulate and to predict for."""
    from benchmarks.arm.mca import CORES

    return [name for name in KINDS if name in CORES]


def _emulator(target: str, board: Path) -> list[str]:
    return [tools.qemu(), "-cpu", _cpu(target), "-L", str(board)]


def _error(net: Artifacts, got: Sequence[np.ndarray]) -> float | None:
    """Of the outputs for the last input sample.

    Raises:
        EdgepackError: They are no result of this net; a count of such a run would mean nothing.
    """
    with np.load(net.reference, allow_pickle=False) as arrays:
        expected = [arrays[f"output_{i}"][-1] for i in range(len(arrays.files))]
    found = distance(got, expected)
    if wrong := found.wrong("fp32"):
        raise EdgepackError(f"the outputs are wrong: {wrong}", where=net.net)
    return found.relative


def describe(measured: Measured) -> dict[str, Any]:
    """As JSON values."""
    return {
        "version": measured.version,
        "instructions": measured.inference.total,
        "by_kind": measured.inference.by_kind(),
        "by_file": measured.inference.by_file(),
        "relative_error": measured.error,
        "model_bytes": measured.model_bytes,
        "runtime_bytes": measured.runtime_bytes,
        "notes": measured.notes,
    }
