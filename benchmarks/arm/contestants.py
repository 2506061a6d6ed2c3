"""The counted programs: edgepack's build and onnxruntime's wheel, each running one net in the emulator, one thread.

The third inference is counted, when everything is initialised. For onnxruntime it is enclosed by two marks. For edgepack
it is the difference between running the agent with three inferences and with two, which cancels loading, the first
inferences and shutdown; the only other difference is one more line on stdout.
"""

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arm import counter, tools, userland
from benchmarks.arm.counter import Profile
from benchmarks.arm.mca import CORES
from benchmarks.kit import agent
from benchmarks.kit.correctness import distance, rows
from benchmarks.kit.nets import Artifacts
from edgepack.bundle import layout
from edgepack.config.target import load_target
from edgepack.errors import EdgepackError
from edgepack.lower import compile_model
from edgepack.lower.phases import executors_for
from edgepack.remote.virtual.kinds import KINDS

_WORKER = Path(__file__).with_name("onnxruntime_worker.py")
_LIBRARY = "libonnxruntime.so"


def edgepack(
    net: Artifacts, target: str, board: Path, folder: Path, records: Path | None
) -> tuple[dict[str, Any], Profile, Path]:
    """Compile for the target and count the agent; also return the outputs and the compiled model.

    Raises:
        EdgepackError: The model cannot be compiled or run, or its outputs are wrong.
    """
    model = folder / layout.model(executors_for(load_target(target))[0].file)
    compiled = compile_model(net.onnx, load_target(target), model, records=records)
    program = agent.place(folder, target, compiled.runtime)
    inputs = agent.save_inputs(folder, [one.name for one in compiled.inputs], rows(net.inputs)[-1])

    # The agent's warm-up inference is not one of these runs.
    bench = [*agent.command(program, "bench", model, inputs, 1), "--warmup", "0", "--runs"]
    cpu = KINDS[target].qemu_cpu
    fewer, more = (counter.count([*bench, str(runs)], cpu=cpu, root=board, environment={}) for runs in (1, 2))
    outputs = folder / "outputs"
    run = agent.command(program, "run", model, inputs, 1)
    emulator = [tools.qemu(), "-cpu", cpu, "-L", str(board)]
    tools.output([*emulator, *run, "--output-dir", str(outputs)])
    got = [np.load(outputs / f"output-{i}.npy") for i in range(len(compiled.outputs))]
    tuned = sum(kernel.tuned for kernel in compiled.kernels)
    inference = more - fewer
    words = {
        "version": importlib.metadata.version("edgepack"),
        **_describe(net, got, inference, model, [program, *(folder / "lib").iterdir()]),
        "notes": f"{tuned} of {len(compiled.kernels)} kernels tuned",
    }
    return words, inference, model


def onnxruntime(net: Artifacts, target: str, board: Path, folder: Path) -> dict[str, Any]:
    """Count the aarch64 wheel through its Python API, with bound inputs and outputs.

    Raises:
        EdgepackError: It cannot run, or its outputs are wrong.
    """
    python, environment = userland.python()
    inputs, outputs = folder / "inputs.npz", folder / "outputs.npz"
    np.savez(inputs, **rows(net.inputs)[-1])

    argv = [python, str(_WORKER), str(net.onnx), str(inputs), str(outputs)]
    cpu = KINDS[target].qemu_cpu
    inference = counter.count(argv, cpu=cpu, root=board, environment=environment)
    with np.load(outputs, allow_pickle=False) as arrays:
        got = [arrays[f"output-{i}"] for i in range(len(arrays.files))]
    folder_of_library = userland.ensure() / userland.SITE / "onnxruntime" / "capi"
    (library,) = folder_of_library.glob(f"{_LIBRARY}.*")
    return {
        "version": library.name.removeprefix(f"{_LIBRARY}."),
        **_describe(net, got, inference, net.onnx, [library]),
        "notes": "aarch64 wheel, CPU execution provider, all optimizations",
    }


def targets() -> list[str]:
    """Return the targets that can be emulated and predicted."""
    return [name for name in KINDS if name in CORES]


def _describe(
    net: Artifacts, got: Sequence[np.ndarray], inference: Profile, model: Path, runtime: Sequence[Path]
) -> dict[str, Any]:
    """Return the count as JSON values; ``runtime`` is what the board needs in addition to the model, without Python.

    Raises:
        EdgepackError: The outputs do not match this net's last input, so the count would be meaningless.
    """
    expected = rows(net.reference)[-1]
    difference = distance(got, [expected[f"output_{i}"] for i in range(len(expected))])
    if wrong := difference.wrong("fp32"):
        raise EdgepackError(f"the outputs are wrong: {wrong}", where=net.net)
    return {
        "instructions": inference.total,
        "by_kind": inference.by_kind(),
        "by_file": inference.by_file(),
        "relative_error": difference.relative,
        "model_bytes": model.stat().st_size,
        "runtime_bytes": sum(path.stat().st_size for path in runtime),
    }
