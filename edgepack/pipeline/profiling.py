"""The kernels of a bundle, measured on a device: what the command ``profile`` and the stage ``bench`` share."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.bundle.manifest import Manifest
from edgepack.config.recipe import Bench
from edgepack.errors import InputError, UsageError
from edgepack.pipeline.bundle_on_board import loaded_bundle
from edgepack.remote.boards import Boards

if TYPE_CHECKING:
    import numpy as np

    from edgepack.agent.protocol import BoardModel
    from edgepack.measuring.profile import ModelProfile
    from edgepack.spec.kernels import KernelList

_MOST_RUNS = 10_000  # as the agent takes
_EMULATED = (1, 3)  # warm-up and timed inferences: enough to show that it works


def profile(
    bundle: Path, device: str, trace: Path | str | None, *, runs: int, warmup: int, threads: int
) -> "ModelProfile":
    """Measure the kernels of a bundle on a device with its own sample as input; nothing is left there.

    Raises:
        InputError: TVM's virtual machine executes the model, or the bundle has no list of kernels.
        UsageError: the timeline cannot be written to ``trace``.
    """
    from edgepack.measuring.timeline import write_timeline
    from edgepack.remote.staging import unpack_bundle

    timeline = None if trace is None else Path(trace)
    if timeline is not None and not timeline.parent.is_dir():
        raise UsageError(
            f"no such folder: {timeline.parent}", where="--trace", next="create it, or choose another"
        )
    spec = Bench(runs=runs, warmup=warmup, threads=threads)
    with Boards() as boards, unpack_bundle(bundle) as source:
        manifest = source.manifest
        check_executor(manifest, str(bundle))
        listed = source.kernels()
        names = [given.name for given in manifest.inputs]
        inputs = dict(zip(names, source.sample()[0], strict=True))
        with loaded_bundle(boards, device, bundle, threads=threads, digest=manifest.digest) as on:
            emulated = boards.device(device).emulated
            measured = profile_kernels(on, inputs, listed, manifest, spec, emulated=emulated)
    if timeline is not None:
        try:
            write_timeline(measured, timeline)
        except OSError as error:
            raise UsageError(
                f"cannot write {timeline}", where="--trace", why=error.strerror, next="choose another file"
            ) from error
    return measured


def profile_kernels(
    on: "BoardModel",
    inputs: "Mapping[str, np.ndarray]",
    listed: "KernelList",
    manifest: Manifest,
    bench: Bench,
    *,
    emulated: bool,
) -> "ModelProfile":
    """Measure the kernels of a model on its board; inputs have the model's order and shapes.

    Raises:
        AgentError: the model or the agent failed.
        InputError: the list is another model's.
        UnreachableError: the connection was lost.
    """
    from edgepack.measuring.profile import profile as measure

    warmup, runs = bench.warmup, min(bench.runs, _MOST_RUNS)
    if emulated:
        warmup, runs = min(warmup, _EMULATED[0]), min(runs, _EMULATED[1])
    return measure(
        on,
        inputs,
        listed,
        model=f"{manifest.name} {manifest.version} ({manifest.candidate}) for {manifest.target.name}",
        working_set=_working_set(manifest),
        warmup=warmup,
        runs=runs,
        emulated=emulated,
    )


def check_executor(manifest: Manifest, where: str) -> None:
    """Check that the model's own runtime executes it.

    Raises:
        InputError: TVM's virtual machine does.
    """
    if manifest.executor != "aot":
        raise InputError(
            "the kernels of this bundle cannot be profiled: TVM's virtual machine executes the model",
            where=where,
            why=manifest.executor_reason
            or f"it was built for {manifest.target.name} ({manifest.target.device_kind})",
            next="profile a bundle for a CPU, whose runtime measures its kernels: edgepack bundle inspect shows its executor",
        )


def _working_set(manifest: Manifest) -> int:
    """Return the bytes that an inference touches, at the most."""
    memory = manifest.memory
    tensors = sum(
        math.prod(tensor.shape) * _bits(tensor.dtype) // 8 for tensor in (*manifest.inputs, *manifest.outputs)
    )
    if memory is None:
        return tensors + sum(each.resident_bytes for each in manifest.constants)
    return tensors + memory.weights + memory.arena


def _bits(dtype: str) -> int:
    return int(dtype.lstrip("abcdefghijklmnopqrstuvwxyz") or 8)
