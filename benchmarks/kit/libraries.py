"""Time compiled libraries side by side, on one thread, each in a separate process; also those of stock TVM.

    python -m benchmarks.kit.libraries LIBRARY INPUTS

runs such a process, a worker (``benchmarks.kit.serving``).
"""

import json
import os
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.kit.interleaving import InterleavedMeasurement, TimedBlock, TimingPlan, in_turns, warm_up
from benchmarks.kit.places import ROOT
from benchmarks.kit.processes import ProcessFailed, WorkerProcess
from benchmarks.kit.serving import serve, time_calls
from edgepack.base.text import near_miss
from edgepack.config.target import Target
from edgepack.errors import UsageError


def build_stock(model: Path, target: Target, out: Path) -> None:
    """Compile the imported model with ``tvm.compile``, linked like edgepack's."""
    import tvm

    from edgepack.lower import phases
    from edgepack.lower.emit import library
    from edgepack.lower.phase import Lowering
    from edgepack.schedules import tvm_target

    lowering = Lowering(model, target, tvm_target(target))
    items = phases.phases_for(target)
    module = phases.run(items, lowering, until=phases.IMPORT)
    library.export(tvm.compile(module, target=lowering.tvm_target), target, out)


def build_without(phase: str, model: Path, target: Target, out: Path) -> None:
    """Build edgepack's library without one phase of the lowering.

    Raises:
        UsageError: The target has no such phase.
    """
    from edgepack.lower import phases
    from edgepack.lower.build import finish
    from edgepack.lower.phase import Lowering
    from edgepack.schedules import tvm_target

    items = phases.phases_for(target)
    names = phases.names(items)
    if phase not in names:
        raise UsageError(f"{target.name} has no phase {phase}{near_miss(phase, names, say='phases:')}")
    lowering = Lowering(model, target, tvm_target(target))
    kept = [item for item in items if item.name != phase]
    finish(phases.run(kept, lowering, until=phases.SEQUENCE), lowering, out)


def build_decoding(model: Path, target: Target, out: Path) -> None:
    """Build edgepack's library with int8 weights decoded in every kernel that supports it, even if slower."""
    from edgepack.lower import phases
    from edgepack.lower.build import finish
    from edgepack.lower.graph.constants import decode_in_kernels
    from edgepack.lower.phase import Lowering
    from edgepack.schedules import tvm_target

    everywhere = replace(phases.DECODE_IN_KERNELS, run=partial(decode_in_kernels, everywhere=True))
    items = phases.phases_for(target)
    lowering = Lowering(model, target, tvm_target(target))
    swapped = [everywhere if item is phases.DECODE_IN_KERNELS else item for item in items]
    finish(phases.run(swapped, lowering, until=phases.SEQUENCE), lowering, out)


def measure(paths: Mapping[str, Path], inputs: Sequence[Any], runs: int) -> dict[str, list[float]]:
    """Return milliseconds of each build, interleaved, without the first inference of each.

    ``inputs`` are the inputs of all builds, as returned by ``compile_model``.
    """
    with _workers(paths, inputs) as workers:
        taken = in_turns(workers, runs)
    return {name: [ns / 1e6 for ns in samples] for name, samples in taken.items()}


def measure_blocks(
    paths: Mapping[str, Path], inputs: Sequence[Any], plan: TimingPlan, chance: random.Random
) -> list[TimedBlock]:
    """Return blocks of inferences of each build, interleaved, each after a warm-up; for layers that take microseconds.

    There is no canary: disturbed blocks count, and show in the quartiles over blocks.

    Raises:
        ProcessFailed: One of them failed.
    """
    with _workers(paths, inputs) as workers:
        warm = {name: warm_up(worker, plan) for name, worker in workers.items()}
        course = InterleavedMeasurement(workers, warm, plan, lambda: (1,), chance, pause=lambda _: None).run()
    for name, why in course.failed.items():
        raise ProcessFailed(f"{name}: {why}")
    return course.blocks


@contextmanager
def _workers(paths: Mapping[str, Path], inputs: Sequence[Any]) -> Iterator[dict[str, WorkerProcess]]:
    environment = {**os.environ, "TVM_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    given = json.dumps([(spec.shape, spec.dtype) for spec in inputs])
    argv = [sys.executable, "-m", __name__]
    with ExitStack() as processes:
        yield {
            name: processes.enter_context(WorkerProcess([*argv, str(path), given], env=environment))
            for name, path in paths.items()
        }


class _Library:
    """A loaded library and its inputs."""

    def __init__(self) -> None:
        import numpy as np

        from edgepack.lower.host import open_on_host

        path, inputs = sys.argv[1], json.loads(sys.argv[2])
        random = np.random.default_rng(0)
        machine = open_on_host(Path(path))
        # Integers are token ids and the like: 0 and 1 are in every vocabulary.
        tensors = [
            random.normal(size=shape) if "float" in dtype else random.integers(0, 2, shape)
            for shape, dtype in inputs
        ]
        given = [tensor.astype(dtype) for tensor, (_, dtype) in zip(tensors, inputs, strict=True)]
        self._infer = machine.bind(*given)

    def time(self, command: dict[str, Any]) -> dict[str, list[int]]:
        time_calls(self._infer, command["untimed"])
        return {"samples_ns": time_calls(self._infer, command["runs"])}


if __name__ == "__main__":
    serve(_Library)
