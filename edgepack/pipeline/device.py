"""Operations on one device outside a run: deploy, roll back, bench, info, trust; and the list of devices."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.config.device import Device, load_devices
from edgepack.engine.events import Advanced, Listener
from edgepack.errors import UsageError
from edgepack.pipeline.bundle_on_board import install_bundle, loaded_bundle, measure_latency
from edgepack.pipeline.emulated_gpu import restore_kernels
from edgepack.remote.boards import Boards, find_device

if TYPE_CHECKING:
    from edgepack.config.recipe import Bench
    from edgepack.measuring.measurement import Measurement
    from edgepack.remote.install import Installed
    from edgepack.remote.session import Session


@dataclass(frozen=True)
class NamedDevice:
    """A device that can be referred to by name."""

    name: str
    device: Device
    virtual: bool
    order: str | None = None  # of the threads of an emulated GPU
    fault: str | None = None  # that a virtual board plays

    def to_json(self) -> dict[str, Any]:
        """The device as JSON values."""
        gpu = {"order": self.order, "fault": self.fault} if self.order is not None else {}
        return {"name": self.name, "virtual": self.virtual, **gpu, **self.device.model_dump(mode="json")}


def prepare_boards(kinds: Sequence[str], listener: Listener) -> None:
    """Download and build what virtual boards of these kinds need for a first run, and keep it in the cache.

    That is the userland, the emulated GPU's driver, the agent, TVM's runtime and the linker's own libraries.

    Raises:
        UsageError: a kind is unknown, or this machine cannot run it.
        EdgepackError: something cannot be downloaded or built.
    """
    from edgepack.agent.build import build_agent
    from edgepack.bundle.runtime import runtime_libs
    from edgepack.config.target import load_target
    from edgepack.emulation import build_driver
    from edgepack.remote import virtual
    from edgepack.spec.runtime import BASE, CUDA
    from edgepack.toolchain.zig import MUSL, warm_up

    for kind in kinds:
        listener(Advanced(text=kind, share=None))
        virtual.prepare(kind)
        target = load_target(virtual.KINDS[kind].target)
        arch, libc = target.abi.arch, target.abi.libc
        build_agent(arch, libc)
        build_agent(arch, MUSL)
        runtime_libs(arch, (*BASE, CUDA) if target.gpu else BASE)
        warm_up(arch, libc)
        if target.gpu:
            build_driver(arch, libc)


def devices() -> list[NamedDevice]:
    """The devices of devices.yaml, then the running virtual boards."""
    from edgepack.remote import virtual

    own = [
        NamedDevice(name, device, virtual=False) for name, device in sorted(load_devices().devices.items())
    ]
    boards = [
        NamedDevice(
            board.name,
            board.device,
            virtual=True,
            order=board.gpu.order if board.gpu else None,
            fault=board.gpu.fault if board.gpu else None,
        )
        for board in virtual.running()
    ]
    return own + boards


def running_targets() -> dict[str, str]:
    """The target of each running virtual board, by its name."""
    from edgepack.remote import virtual

    return {board.name: board.device.target for board in virtual.running()}


def deploy(bundle: Path, device: str, listener: Listener) -> "Installed":
    """Install a bundle on a device; progress events count the bytes sent."""
    with Boards() as boards:
        return install_bundle(
            boards, device, bundle, lambda text, share: listener(Advanced(text=text, share=share))
        )


def rollback(name: str, device: str) -> "Installed":
    """Make the previous release of ``name`` current again."""
    from edgepack.remote.install import rollback as back

    with Boards() as boards:
        restore_kernels(boards, device)
        return back(boards.session(device), name, boards.device(device).work_dir)


def bench(bundle: Path, device: str, spec: "Bench") -> "Measurement":
    """Measure a bundle on a device with its own sample as input; nothing is left there."""
    from edgepack.remote.staging import unpack_bundle

    with Boards() as boards, unpack_bundle(bundle) as source:
        manifest = source.manifest
        names = [given.name for given in manifest.inputs]
        inputs = dict(zip(names, source.sample()[0], strict=True))
        with loaded_bundle(boards, device, bundle, threads=spec.threads, digest=manifest.digest) as on:
            return measure_latency(on, inputs, spec, emulated=boards.device(device).emulated)


def info(device: str) -> dict[str, Any]:
    """What the agent reports about the board, and the releases on it."""
    from edgepack.agent.protocol import info as probe
    from edgepack.config.target import load_target
    from edgepack.remote.install import releases
    from edgepack.remote.tools import ensure_tools

    with Boards() as boards:
        where = boards.device(device)
        session = boards.session(device)
        target = load_target(where.target)
        # CUDA's libraries are looked for as TVM's runtime does it, by the loader.
        agent = ensure_tools(session, target, where.work_dir)
        board = probe(session, agent, work_dir=where.work_dir)
        held = {
            name: [vars(release) for release in releases(session, name, where.work_dir)]
            for name in _release_names(session, where.work_dir)
        }
    return {
        "device": device,
        "target": where.target,
        **board.model_dump(mode="json", exclude={"ok"}),
        "releases": held,
    }


def _release_names(session: "Session", work_dir: str) -> list[str]:
    from edgepack.remote.layout import is_name
    from edgepack.remote.store import ask
    from edgepack.remote.workdir import work_path

    names = [line["entry"] for line in ask(session, "names", work_path(work_dir))]
    return sorted(name for name in names if is_name(name))


def trust(device: str, fingerprint: str | None = None) -> str:
    """Fetch a device's host key and add it to known_hosts; returns its fingerprint."""
    from edgepack.remote.session import trust as accept

    return accept(device, find_device(device, load_devices()), fingerprint=fingerprint)


def stop_boards(name: str | None, *, everything: bool, purge: bool) -> list[str]:
    """Stop one virtual board or all of them; ``purge`` also deletes their files. Returns their names.

    Raises:
        UsageError: neither or both are given, or no such board is running.
    """
    from edgepack.remote import virtual

    if (name is None) == (not everything):
        raise UsageError("no board given", next="use edgepack devices down NAME, or --all")
    names = [board.name for board in virtual.running()] if name is None else [name]
    for each in names:
        stopped = virtual.purge(each) if purge else virtual.down(each)
        if not stopped and name is not None:  # with --all, a board may have stopped since it was listed
            raise UsageError(f"no virtual board named {each} is running", next="edgepack devices list")
    return names
