"""Install a bundle on a board, or copy it there to be measured; used by stages and commands."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.progress import Progress
from edgepack.config.recipe import Bench
from edgepack.engine.events import Advanced
from edgepack.pipeline.emulated_gpu import beside, provide_kernels
from edgepack.remote.boards import Boards

if TYPE_CHECKING:
    import numpy as np

    from edgepack.agent.protocol import BoardModel
    from edgepack.measuring.measurement import Measurement
    from edgepack.remote.install import Installed


def install_bundle(
    boards: Boards,
    device: str,
    bundle: Path,
    progress: Progress,
    *,
    kernels: Path | None = None,
    built_here: bool = False,
) -> "Installed":
    """Install a bundle on a device; if the device has it already, it is only checked.

    The release is fixed by the first look at the bundle: if the file is replaced meanwhile, nothing else is installed.
    ``kernels`` has the sources of its CUDA kernels, by default the file beside it; only an emulated GPU needs them.

    Raises:
        EdgepackError: as :func:`edgepack.remote.install.install`.
    """
    from edgepack.bundle.archive import read_manifest
    from edgepack.remote.install import install

    manifest = read_manifest(bundle)  # an invalid file is reported before any board is contacted or started

    def sent(done: int, total: int) -> None:
        event = Advanced.sent(done, total)
        progress(event.text, event.share)

    provide_kernels(boards, device, bundle, manifest, kernels or beside(bundle))
    work_dir = boards.device(device).work_dir
    return install(
        boards.session(device),
        bundle,
        work_dir=work_dir,
        progress=sent,
        digest=manifest.digest,
        built_here=built_here,
    )


@contextmanager
def loaded_bundle(
    boards: Boards,
    device: str,
    bundle: Path,
    *,
    threads: int,
    kernels: Path | None = None,
    digest: str | None = None,
) -> "Iterator[BoardModel]":
    """A bundle's model on a device, to run and to measure; it is removed afterwards.

    ``kernels`` and what happens if the file is replaced are as in :func:`install_bundle`; ``digest`` is the release that
    it must hold, if it was read before.

    Raises:
        EdgepackError: as :func:`edgepack.remote.scratch.scratch`.
    """
    from edgepack.bundle.archive import read_manifest
    from edgepack.remote.scratch import scratch

    manifest = read_manifest(bundle)
    provide_kernels(boards, device, bundle, manifest, kernels or beside(bundle))
    fixed = digest or manifest.digest
    work_dir = boards.device(device).work_dir
    with scratch(boards.session(device), bundle, work_dir=work_dir, digest=fixed) as on:
        yield replace(on, threads=threads)


def measure_latency(
    on: "BoardModel", inputs: "Mapping[str, np.ndarray]", bench: Bench, *, emulated: bool
) -> "Measurement":
    """Measure the latency of a model on its board; inputs have the model's order and shapes.

    Raises:
        AgentError: the model or the agent failed.
        UnreachableError: the connection was lost.
    """
    from edgepack.measuring.measure import measure

    return measure(on, inputs, warmup=bench.warmup, runs=bench.runs, emulated=emulated)
