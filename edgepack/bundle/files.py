"""The files of a release: model, agent, runtime libraries, examples, one sample with its outputs."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.agent.build import build_agent
from edgepack.bundle import layout
from edgepack.bundle.examples import example_files
from edgepack.bundle.manifest import TargetInfo
from edgepack.bundle.runtime import runtime_libs

if TYPE_CHECKING:
    import numpy as np

_SAMPLE = {"input": layout.sample_input, "output": layout.sample_output}


def release_files(
    target: TargetInfo, model: Path, samples: Path, *, runtime: Sequence[str]
) -> dict[str, Path | bytes]:
    """The files of a bundle by their paths in it.

    Args:
        target: the target of the build.
        model: the compiled model, with the file name of its executor.
        samples: an .npz file with ``input_0``…, ``output_0``…, each ``[N, *shape]``; the first sample is used.
        runtime: names of the runtime libraries the model needs.

    Raises:
        IntegrityError: a runtime library is not the pinned one.
        EdgepackError: the agent cannot be built, or a runtime library cannot be obtained.
    """
    files: dict[str, Path | bytes] = {
        layout.model(model.name): model,
        layout.AGENT: build_agent(target.abi.arch, target.abi.libc),
    }
    files |= {layout.library(name): path for name, path in runtime_libs(target.abi.arch, runtime).items()}
    files |= {layout.example(name): path for name, path in example_files().items()}
    files |= _first_sample(samples)
    return files


def _first_sample(path: Path) -> dict[str, Path | bytes]:
    import numpy as np

    files: dict[str, Path | bytes] = {}
    with np.load(path, allow_pickle=False) as samples:
        for name in samples.files:
            kind, _, index = name.partition("_")
            if kind in _SAMPLE:
                files[_SAMPLE[kind](int(index))] = _npy(samples[name][0])
    return files


def _npy(array: "np.ndarray") -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()
