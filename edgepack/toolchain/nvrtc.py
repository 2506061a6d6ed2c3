"""Compile CUDA source to a cubin with NVRTC's C API, from NVIDIA's wheels on PyPI: no toolkit, no GPU.

NVRTC comes without headers; those that TVM's code includes (``cuda/std``, ``cuda_fp16.h``) are in three more wheels.
They are read at build time only: nothing of these wheels is loaded besides NVRTC, or becomes part of a bundle.
"""

import ctypes
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from edgepack.base.versions import tool_version
from edgepack.errors import EdgepackError

# A header of each wheel, below its include folder. cccl has a folder of its own, which nvcc searches, too.
_HEADERS = {
    "nvidia-cuda-runtime": "cuda_fp16.h",
    "nvidia-cuda-crt": "crt/mma.h",
    "nvidia-cuda-cccl": "cccl/cuda/std/type_traits",
}
_INSTALL = "pip install 'edgepack[cuda]'; if it is installed already, with --force-reinstall"
DISTRIBUTIONS = ("nvidia-cuda-nvrtc", *_HEADERS)  # all that a cubin depends on


def library() -> Path | None:
    """Return the path of NVRTC in the nvidia-cuda-nvrtc wheel; None if it is not installed."""
    for folder in _toolkits():
        libraries = sorted((folder / "lib").glob("libnvrtc.so.*"))
        if libraries:
            return libraries[-1]
    return None


def include_folders(path: Path) -> tuple[Path, ...]:
    """Return the folders with the headers of NVRTC's CUDA release, in the order to search them.

    Args:
        path: NVRTC, as returned by ``library``.

    Raises:
        EdgepackError: A wheel is not installed, or not whole.
    """
    release = path.parent.parent.name
    candidates = [folder / "include" for folder in _toolkits() if folder.name == release]
    folders: dict[Path, None] = {}
    for distribution, header in _HEADERS.items():
        include = next((folder for folder in candidates if (folder / header).is_file()), None)
        if include is None:
            raise EdgepackError(
                f"NVRTC lacks the headers of {distribution}",
                why=f"{header} is not in nvidia/{release}/include; {distribution} is {tool_version(distribution)}",
                next=_INSTALL,
            )
        folders[include] = None
    return (*folders, *(folder / "cccl" for folder in folders))


def identity() -> str:
    """Return the names and versions of all wheels that affect the output."""
    return " ".join(f"{name} {tool_version(name)}" for name in DISTRIBUTIONS)


def _toolkits() -> Sequence[Path]:
    """Return the folders into which NVIDIA's wheels are installed: one per CUDA release and site-packages."""
    spec = importlib.util.find_spec("nvidia")
    roots = (spec.submodule_search_locations or ()) if spec else ()
    return [folder for root in roots for folder in sorted(Path(root).glob("cu[0-9]*"), reverse=True)]


def compile_cubin(code: str, arch: str, path: Path) -> bytes:
    """Compile CUDA source for a real architecture such as ``sm_87``.

    Raises:
        EdgepackError: NVRTC cannot be loaded, lacks headers, does not support the architecture, or rejects the code.
    """
    try:
        # NVRTC loads its builtins by file name; loading them first avoids LD_LIBRARY_PATH.
        for builtins in sorted(path.parent.glob("libnvrtc-builtins.so.*")):
            ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
        nvrtc = ctypes.CDLL(str(path))
    except OSError as error:
        raise EdgepackError(f"NVRTC cannot be loaded: {path}", why=str(error), next=_INSTALL) from error
    flags = [f"--gpu-architecture={arch}", "--std=c++17", "-default-device"]
    flags += ["--no-cache"]  # in the home directory, keyed by NVRTC's own rules
    flags += [f"--include-path={folder}" for folder in include_folders(path)]
    program = ctypes.c_void_p()
    status = nvrtc.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernels.cu", 0, None, None)
    if status:
        raise EdgepackError(f"NVRTC cannot start (status {status})", where=str(path))
    try:
        options = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
        if nvrtc.nvrtcCompileProgram(program, len(flags), options):
            log = _read(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
            why = log.rstrip(b"\0").decode(errors="replace").strip()
            raise EdgepackError(
                f"NVRTC cannot compile the model's kernels for {arch}",
                why=why,
                next=_INSTALL if "open source file" in why else "EDGEPACK_CUDA_COMPILER=nvcc, if installed",
            )
        return _read(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _read(
    size: "ctypes._NamedFuncPointer", content: "ctypes._NamedFuncPointer", program: ctypes.c_void_p
) -> bytes:
    length = ctypes.c_size_t()
    size(program, ctypes.byref(length))
    buffer = ctypes.create_string_buffer(length.value)
    content(program, buffer)
    return buffer.raw
