"""This machine as a board: its CPU, or its emulated GPU; the agent that it runs is the one that ships."""

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.kit import agent
from edgepack.agent.build import build_agent
from edgepack.agent.protocol import BoardModel, DeviceKind
from edgepack.config.target import Target, load_target
from edgepack.emulation import EmulatedGpu, build_module, install_driver
from edgepack.emulation.sources import digest_of
from edgepack.lower import Compiled
from edgepack.remote.virtual.kinds import KINDS
from edgepack.spec.runtime import BASE, CUDA, EXTRA
from edgepack.toolchain.zig import MUSL


@dataclass(frozen=True)
class Here:
    """The part of a session that ``edgepack.agent.protocol`` needs."""

    name: str = "here"
    environment: Mapping[str, str] = field(default_factory=dict)  # additional variables

    def run(
        self, argv: Sequence[str], *, timeout: float | None = None, check: bool = False
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command and wait for it."""
        variables = {**os.environ, **self.environment}
        return subprocess.run(argv, capture_output=True, timeout=timeout, check=check, env=variables)

    def agent(self) -> str:
        """The static agent for this machine."""
        return str(build_agent(platform.machine(), MUSL))

    def put_bytes(self, data: bytes, dest: str) -> None:
        """Write a file."""
        Path(dest).write_bytes(data)

    def get(self, source: str, dest: Path) -> None:
        """Copy a file."""
        shutil.copy(source, dest)


@dataclass(frozen=True)
class LocalBoard:
    """A folder with the agent and its libraries as in a bundle; ``gpu`` is the folder of its emulated GPU."""

    target: Target
    agent: Path
    gpu: Path | None = None

    @property
    def device(self) -> DeviceKind:
        """Where kernels run."""
        return "cpu" if self.gpu is None else "cuda"

    @contextmanager
    def model(self, compiled: Compiled, timeout: float | None = None) -> Iterator[BoardModel]:
        """The compiled model on this board; the modules of its kernels are built if the GPU needs them.

        Raises:
            EdgepackError: The emulation refuses a kernel.
        """
        with tempfile.TemporaryDirectory(prefix="edgepack-coverage-gpu-") as name:
            folder = Path(name)
            variables = {} if self.gpu is None else self._attach(compiled, folder)
            on = Here(environment=variables)
            yield BoardModel(
                on, str(self.agent), str(compiled.path), self.device, scratch=name, timeout=timeout
            )

    def _attach(self, compiled: Compiled, folder: Path) -> dict[str, str]:
        """Give the GPU a folder of its own, with this model's kernels."""
        configure(folder, self.target)
        abi = self.target.abi
        for module in compiled.sources:
            build_module(module.source, digest_of(module.cubin), folder, abi.arch, abi.libc)
        return {"EDGEPACK_GPU": str(folder), "LD_LIBRARY_PATH": str(self.gpu)}


def configure(folder: Path, target: Target) -> None:
    """Describe the emulated GPU of the target's virtual board."""
    kind = KINDS[target.name]
    if kind.gpu is None:
        raise ValueError(f"{target.name} has no virtual board with a GPU")
    model = kind.gpu
    EmulatedGpu(model.name, model.compute, model.memory_mib, model.multiprocessors).write(folder)


def place(folder: Path, target_name: str) -> LocalBoard:
    """Lay out a board for a target of this machine's architecture in the folder."""
    target = load_target(target_name)
    if target.gpu is None:
        return LocalBoard(target, agent.place(folder, target_name))
    libraries = folder / "driver"
    install_driver(libraries, target.abi.arch, target.abi.libc)
    return LocalBoard(target, agent.place(folder, target_name, (*BASE, EXTRA, CUDA)), libraries)
