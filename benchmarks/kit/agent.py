"""edgepack's agent as benchmarks run it: laid out like a bundle, its inputs in files, its answers lines of JSON.

edgepack's contestant has it in its process: Python and numpy alone at the top.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def place(folder: Path, target_name: str, runtime: Sequence[str] | None = None) -> Path:
    """The agent and the runtime libraries named, as a bundle lays them out; the agent's path.

    Without names it is all that a model without a GPU may need.
    """
    from edgepack.agent.build import build_agent
    from edgepack.bundle.runtime import runtime_libs
    from edgepack.config.target import load_target
    from edgepack.spec.runtime import BASE, EXTRA

    abi = load_target(target_name).abi
    for name in ("bin", "lib"):
        (folder / name).mkdir(parents=True)
    for name, path in runtime_libs(abi.arch, runtime or (*BASE, EXTRA)).items():
        shutil.copy2(path, folder / "lib" / name)
    return Path(shutil.copy2(build_agent(abi.arch, abi.libc), folder / "bin" / "edgepack-agent"))


def save_inputs(folder: Path, names: Sequence[str], arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Write the inputs of one inference, in the model's order; the arguments that name them to the agent."""
    words = []
    for index, name in enumerate(names):
        words += ["--input", str(folder / f"input-{index}.npy")]
        np.save(words[-1], np.ascontiguousarray(arrays[name]), allow_pickle=False)
    return words


def command(agent: Path, do: str, model: Path, inputs: Sequence[str], threads: int) -> list[str]:
    """``bench`` or ``run`` on saved inputs; more arguments may follow."""
    return [str(agent), do, "--model", str(model), *inputs, "--threads", str(threads)]


def answers(output: bytes, status: int) -> list[dict[str, Any]]:
    """What the agent said.

    Raises:
        RuntimeError: It failed; its last line says how.
    """
    lines = [json.loads(line) for line in output.splitlines()]
    if status:
        raise RuntimeError(f"the agent failed: {lines[-1]['error'] if lines else f'exit status {status}'}")
    return lines
