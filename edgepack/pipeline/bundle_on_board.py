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
    boards: Boards, device: str, bundle: Path, progress: Progress, *, kernels: Path | None = None
) -> "Installed":
    """Install a bundle on a device; if the device has it already, it is only checked.

    ``kernels`` has the sources of its CUDA kernels, by default the file beside it; only an emulated GPU needs them.

    Raises:
        EdgepackError: as :func:`edgepack.remote.install.install`.
    """
    from edgepack.remote.install import install

    def sent(done: int, total: int) -> None:
        event = Advanced.sent(done, total)
        progress(event.text, event.share)

    provide_kernels(boards, device, bundle, kernels or beside(bundle))
    return install(boards.session(device), bundle, work_dir=boards.device(device).work_dir, progress=sent)


@contextmanager
def loaded_bundle(
    boards: Boards, device: str, bundle: Path, *, threads: int, kernels: Path | None = None
) -> "Iterator[BoardModel]":
    """A bundle's model on a device, to run and to measure; it is removed afterwards.

    ``kernels`` is as in :func:`install_bundle`.

    Raises:
        EdgepackError: as :func:`edgepack.remote.scratch.scratch`.
    """
    from edgepack.remote.scratch import scratch

    provide_kernels(boards, device, bundle, kernels or beside(bundle))
    with scratch(boards.session(device), bundle, work_dir=boards.device(device).work_dir) as on:
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
