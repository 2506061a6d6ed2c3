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
    "nvidia-cuda-crt": "crt/host_defines.h",
    "nvidia-cuda-cccl": "cccl/cuda/std/type_traits",
}
DISTRIBUTIONS = ("nvidia-cuda-nvrtc", *_HEADERS)  # all that a cubin depends on


def library() -> Path | None:
    """Return the path of NVRTC in the nvidia-cuda-nvrtc wheel; None if it is not installed."""
    for folder in _toolkits():
        libraries = sorted(folder.glob("lib/libnvrtc.so.*"))
        if libraries:
            return libraries[-1]
    return None


def include_folders() -> tuple[Path, ...]:
    """Return the folders with the headers of the wheels, in the order to search them.

    Raises:
        EdgepackError: A wheel is not installed, or not whole.
    """
    folders: dict[Path, None] = {}
    for distribution, header in _HEADERS.items():
        include = next((f / "include" for f in _toolkits() if (f / "include" / header).is_file()), None)
        if include is None:
            installed = tool_version(distribution)
            raise EdgepackError(
                "NVRTC lacks CUDA headers",
                where=f"{distribution} ({installed})",
                why=f"there is no {header} in this Python's nvidia packages",
                next="pip install 'edgepack[cuda]'; with --force-reinstall if it is installed already",
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
        raise EdgepackError(
            f"NVRTC cannot be loaded: {path}", why=str(error), next="pip install 'edgepack[cuda]'"
        ) from error
    program = ctypes.c_void_p()
    status = nvrtc.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernels.cu", 0, None, None)
    if status:
        raise EdgepackError(f"NVRTC cannot start (status {status})", where=str(path))
    try:
        flags = [f"--gpu-architecture={arch}", "--std=c++17", "-default-device"]
        flags += [f"--include-path={folder}" for folder in include_folders()]
        options = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
        if nvrtc.nvrtcCompileProgram(program, len(flags), options):
            log = _read(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
            raise EdgepackError(
                f"NVRTC cannot compile the model's kernels for {arch}",
                why=log.rstrip(b"\0").decode(errors="replace").strip(),
                next="EDGEPACK_CUDA_COMPILER=nvcc uses an installed CUDA toolkit instead",
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
