"""Kernels for the emulated GPU of a virtual board.

An emulated GPU cannot run a cubin: it runs a module that was built from the same CUDA source, which it finds by the
cubin's digest. Sources are an artifact of the compile stage, and lie beside a bundle as ``NAME.kernels.cu``; they are
kept with the board, so that a rollback can build the modules of an earlier release again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.errors import InputError
from edgepack.remote.boards import Boards

if TYPE_CHECKING:
    from edgepack.bundle.manifest import Manifest
    from edgepack.emulation.sources import Kernels

SUFFIX = ".kernels.cu"
CODE = ("emulation", "pipeline/emulated_gpu.py", "toolchain")
"""Source files that affect what an emulated GPU computes, as in a stage's ingredients."""
_SOURCES = "sources"  # folder of a board's GPU: a file for each cubin


def beside(bundle: Path) -> Path:
    """Where the sources of a bundle's CUDA kernels are: ``NAME.kernels.cu`` for ``NAME.edgepack``."""
    return bundle.with_name(bundle.name.removesuffix(".edgepack") + SUFFIX)


def provide_kernels(boards: Boards, device: str, bundle: Path, manifest: "Manifest", kernels: Path) -> None:
    """Provide the modules of a bundle's kernels if the device has an emulated GPU; for other devices, do nothing.

    Args:
        boards: The devices.
        device: The device's name.
        bundle: The bundle.
        manifest: Its manifest, as it was read first.
        kernels: The file with the sources of its kernels.

    Raises:
        IntegrityError: The bundle is damaged, or was replaced since its manifest was read.
        InputError: A cubin in the bundle has no source there, and the board does not have it either.
    """
    from edgepack.bundle.archive import read_file
    from edgepack.emulation import sources
    from edgepack.toolchain.cubin import cubins

    folder = _gpu_folder(boards, device)
    if folder is None or manifest.target.device_kind != "cuda":
        return
    given = sources.read(kernels) if kernels.is_file() else []
    known = {each.digest: each for each in given}
    needed = []
    for digest in (
        cubin.digest for cubin in cubins(read_file(bundle, manifest.model, digest=manifest.digest))
    ):
        kept = folder / _SOURCES / f"{digest}.cu"
        if digest in known:
            sources.save(kept, [known[digest]])
            needed.append(known[digest])
        elif kept.is_file():
            needed += sources.read(kept)
        else:
            raise _without_source(device, manifest, digest, kernels)
    _build(boards, device, folder, needed)


def restore_kernels(boards: Boards, device: str) -> None:
    """Provide the modules of all releases that were installed on a device with an emulated GPU.

    They are there already, unless edgepack's emulation has changed since.
    """
    from edgepack.emulation import sources

    folder = _gpu_folder(boards, device)
    if folder is not None:
        kept = sorted((folder / _SOURCES).glob("*.cu"))
        _build(boards, device, folder, [each for path in kept for each in sources.read(path)])


@contextmanager
def gpu_for_candidates(boards: Boards, device: str) -> Iterator[Path | None]:
    """The folder of a device's emulated GPU, for modules of tuning candidates; None without an emulated GPU.

    What was added to its modules is removed at the end.
    """
    folder = _gpu_folder(boards, device)
    before = _modules(folder)
    try:
        yield folder
    finally:
        for path in _modules(folder) - before:
            path.unlink(missing_ok=True)


def _modules(folder: Path | None) -> set[Path]:
    return set() if folder is None else set((folder / "modules").glob("*"))


def _gpu_folder(boards: Boards, device: str) -> Path | None:
    from edgepack.remote.virtual import gpu_folder

    boards.device(device)  # a virtual board is running when this returns
    return gpu_folder(device)


def _build(boards: Boards, device: str, folder: Path, needed: "list[Kernels]") -> None:
    from edgepack.config.target import load_target
    from edgepack.emulation import build_module

    abi = load_target(boards.device(device).target).abi
    for each in needed:
        build_module(each.source, each.digest, folder, abi.arch, abi.libc)


def _without_source(device: str, manifest: "Manifest", digest: str, kernels: Path) -> InputError:
    there = f"{kernels} {'has no source' if kernels.is_file() else 'is missing, which has the source'}"
    return InputError(
        f"the emulated GPU cannot run the kernels of {manifest.name} {manifest.version}",
        where=device,
        why=f"{there} of cubin sha256:{digest}",
        state="nothing was sent",
        next="keep the .kernels.cu file of `edgepack package` beside its bundle, or build both again",
    )
