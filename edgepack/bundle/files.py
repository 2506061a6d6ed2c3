"""The files of a release: model, agent, runtime libraries, examples, one sample with its outputs."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.agent.build import build_agent, link_agent
from edgepack.base.temporary import temporary_folder
from edgepack.bundle import layout
from edgepack.bundle.examples import example_files, header_files
from edgepack.bundle.manifest import TargetInfo
from edgepack.bundle.runtime import runtime_libs

if TYPE_CHECKING:
    import numpy as np

_SAMPLE = {"input": layout.sample_input, "output": layout.sample_output}


def release_files(
    target: TargetInfo,
    model: Path,
    samples: Path,
    *,
    weights: Path | None,
    kernels: Path | bytes,
    objects: Path | None,
    executor: str,
    runtime: Sequence[str],
) -> dict[str, Path | bytes]:
    """The files of a bundle by their paths in it.

    Args:
        target: the target of the build.
        model: the compiled model, with the file name of its executor.
        weights: its weights file, if it has one.
        kernels: the list of its kernels.
        objects: the archive of its object files, if the agent is to be linked with them.
        samples: an .npz file with ``input_0``…, ``output_0``…, each ``[N, *shape]``; the first sample is used that has
            an output other than 0, NaN and infinities.
        executor: what runs the model.
        runtime: names of the runtime libraries the model needs.

    Raises:
        IntegrityError: a runtime library is not the pinned one.
        EdgepackError: the agent cannot be built, or a runtime library cannot be obtained.
    """
    files: dict[str, Path | bytes] = {
        layout.model(model.name): model,
        layout.KERNELS: kernels,
        layout.AGENT: _agent(target, objects),
    }
    if weights is not None:
        files[layout.weights(model.name)] = weights
    files |= {layout.library(name): path for name, path in runtime_libs(target.abi.arch, runtime).items()}
    files |= {layout.example(name): path for name, path in example_files(executor).items()}
    files |= {layout.header(name): path for name, path in header_files(executor).items()}
    files |= _example(samples)
    return files


def _agent(target: TargetInfo, objects: Path | None) -> Path | bytes:
    if objects is None:
        return build_agent(target.abi.arch, target.abi.libc)
    with temporary_folder() as folder:
        return link_agent(target.abi.arch, objects, folder / "edgepack-agent").read_bytes()


def _example(path: Path) -> dict[str, Path | bytes]:
    import numpy as np

    with np.load(path, allow_pickle=False) as archive:
        samples = {name: archive[name] for name in archive.files if name.partition("_")[0] in _SAMPLE}
    row = _telling_row([array for name, array in samples.items() if name.startswith("output_")])
    files: dict[str, Path | bytes] = {}
    for name, array in samples.items():
        kind, _, index = name.partition("_")
        files[_SAMPLE[kind](int(index))] = _npy(array[row])
    return files


def _telling_row(outputs: "list[np.ndarray]") -> int:
    """The first sample whose outputs a wrong result would differ from; the first of all if there is none."""
    import numpy as np

    tells: list[int] = []
    for output in outputs:
        rows = output.reshape(len(output), -1)
        tells += np.flatnonzero((np.isfinite(rows) & (rows != 0)).any(axis=1)).tolist()[:1]
    return min(tells, default=0)


def _npy(array: "np.ndarray") -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array, order="C"), allow_pickle=False)
    return buffer.getvalue()
