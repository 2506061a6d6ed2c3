"""The emulated GPU of a virtual board: its faults, its order of threads, its folder with configuration and modules."""

import os
import re
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgepack.config.device import FAULTS
from edgepack.config.target import load_target
from edgepack.errors import UsageError
from edgepack.remote.virtual import jetson_files, programs
from edgepack.remote.virtual.jetsons import with_fault
from edgepack.remote.virtual.kinds import KINDS, Kind

ORDER = "forward"  # unless another one is asked for
RUNTIME, DRIVER = "libcudart.so.13", "libcuda.so.1"
FOLDER = "gpu"  # in a board's folder: gpu.conf, and modules/ for kernels

_OF_JETSONS = ("jetpack-6", "no-driver")  # what a Jetson's userland lacks
_ORDERS = re.compile(r"forward|reverse|random:\d{1,9}")
_VARIABLE, _ON_BOARD = "EDGEPACK_GPU", "/opt/edgepack-gpu"
_PATH = (
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # as Ubuntu's: nvpmodel is in /usr/sbin
)
_DRIVER_FAULTS = {"hang": "hang", "reset": "reset:2"}


@dataclass(frozen=True)
class Setting:
    """How a board with a GPU is started."""

    order: str = ORDER
    fault: str | None = None


def setting(kind: Kind, order: str | None, fault: str | None) -> Setting | None:
    """The checked setting of a board of this kind; None if it has no GPU.

    Raises:
        UsageError: the fault or the order is unknown, or the kind has no GPU to apply it to.
    """
    if kind.gpu is None:
        if order is not None or fault is not None:
            option = "--fault" if fault is not None else "--order"
            raise UsageError(
                f"virtual board '{kind.name}' has no GPU, which {option} is for",
                next=f"use a kind with a GPU: {', '.join(k.name for k in KINDS.values() if k.gpu)}",
            )
        return None
    if fault is not None and fault not in FAULTS:
        raise UsageError(f"unknown fault '{fault}'", why=f"faults: {', '.join(FAULTS)}")
    if fault in _OF_JETSONS and kind.jetson is None:
        kinds = ", ".join(k.name for k in KINDS.values() if k.jetson)
        raise UsageError(
            f"virtual board '{kind.name}' cannot play the fault '{fault}'",
            why="it has this machine's own userland",
            next=f"use one of these kinds: {kinds}",
        )
    if order is not None and not _ORDERS.fullmatch(order):
        raise UsageError(f"unknown order '{order}'", why="orders: forward, reverse, random:SEED")
    return Setting(order or ORDER, fault)


@dataclass(frozen=True)
class Attached:
    """How a GPU is attached: variables of every session, and entries of the supervisor's plan."""

    environment: dict[str, str] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)


def attach(kind: Kind, chosen: Setting, folder: Path) -> Attached:
    """Prepare the GPU of the board with this folder: configuration, driver, and what a Jetson shows of itself.

    Modules in the GPU's folder are kept.
    """
    gpu, libraries = folder / FOLDER, folder / "gpu-libraries"
    _configure(gpu, kind, chosen)
    _install(libraries, kind, chosen)
    if kind.jetson is None:
        config = folder / "ld.so.conf"
        config.write_text(f"{libraries}\ninclude /etc/ld.so.conf\n")
        cache = folder / "ld.so.cache"
        cache.touch()
        ldconfig = programs.find("ldconfig", "libc-bin")
        return Attached(
            {_VARIABLE: str(gpu)},
            {
                "nodes": ["nvidia0"],
                "loader": [[ldconfig, "-X", "-f", str(config), "-C", str(cache)], str(cache)],
            },
        )
    jetson = with_fault(kind.jetson, chosen.fault)
    shown = jetson_files.write(folder / "jetson", jetson, libraries, len(os.sched_getaffinity(0)))
    return Attached(
        {_VARIABLE: _ON_BOARD, "PATH": _PATH},
        {"nodes": list(jetson.nodes), "shown": shown | {_ON_BOARD: str(gpu)}},
    )


def _configure(folder: Path, kind: Kind, chosen: Setting) -> None:
    from edgepack.emulation import EmulatedGpu

    model = kind.gpu
    if model is None:
        raise ValueError(f"{kind.name} has no GPU")
    if chosen.fault == "compute-capability":
        model = replace(model, name="Xavier", compute="7.2")
    elif chosen.fault == "out-of-memory":
        model = replace(model, memory_mib=0)
    (folder / "modules").mkdir(parents=True, exist_ok=True)
    EmulatedGpu(
        model.name,
        model.compute,
        model.memory_mib,
        model.multiprocessors,
        order=chosen.order,
        fault=_DRIVER_FAULTS.get(chosen.fault or "", ""),
    ).write(folder)


def _install(libraries: Path, kind: Kind, chosen: Setting) -> None:
    from edgepack.emulation import install_driver

    shutil.rmtree(libraries, ignore_errors=True)
    libraries.mkdir()
    install_driver(libraries, kind.arch, load_target(kind.target).abi.libc)
    if chosen.fault == "no-driver":
        (libraries / DRIVER).unlink()
    elif chosen.fault == "jetpack-6":
        _make_older(libraries)


def _make_older(libraries: Path) -> None:
    """Turn the CUDA runtime into one of CUDA 12, which has another name and nothing else that matters here."""
    runtime = libraries / RUNTIME
    older = RUNTIME.replace("13", "12")
    (libraries / older).write_bytes(runtime.read_bytes().replace(RUNTIME.encode(), older.encode()))
    runtime.unlink()
