"""Run edgepack's agent in benchmarks: laid out as in a bundle, inputs in files, answers as lines of JSON.

edgepack's contestant imports this module: only Python and numpy at the top level.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def place(folder: Path, target_name: str, runtime: Sequence[str] | None = None) -> Path:
    """Lay out the agent and the named runtime libraries as in a bundle; returns the agent's path.

    Without names, all libraries that a model without a GPU may need are included.
    """
    from edgepack.agent.build import build_agent
    from edgepack.bundle import layout
    from edgepack.bundle.runtime import runtime_libs
    from edgepack.config.target import load_target
    from edgepack.spec.runtime import BASE, EXTRA

    abi = load_target(target_name).abi
    files = {layout.AGENT: build_agent(abi.arch, abi.libc)}
    libraries = runtime_libs(abi.arch, runtime or (*BASE, EXTRA))
    files |= {layout.library(name): path for name, path in libraries.items()}
    for path, source in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, folder / path)
    return folder / layout.AGENT


def save_inputs(folder: Path, names: Sequence[str], arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Write the inputs of one inference, in the model's order; returns the agent's arguments for them."""
    words = []
    for index, name in enumerate(names):
        words += ["--input", str(folder / f"input-{index}.npy")]
        np.save(words[-1], np.ascontiguousarray(arrays[name]), allow_pickle=False)
    return words


def command(agent: Path, do: str, model: Path, inputs: Sequence[str], threads: int) -> list[str]:
    """Return the command line of ``bench`` or ``run`` on saved inputs; more arguments may follow."""
    return [str(agent), do, "--model", str(model), *inputs, "--threads", str(threads)]


def answers(output: bytes, status: int) -> list[dict[str, Any]]:
    """Parse the agent's output.

    Raises:
        RuntimeError: It failed; its last line has the error.
    """
    lines = [json.loads(line) for line in output.splitlines()]
    if status:
        raise RuntimeError(f"the agent failed: {lines[-1]['error'] if lines else f'exit status {status}'}")
    return lines
