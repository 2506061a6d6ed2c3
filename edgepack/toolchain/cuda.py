"""CUDA kernels without a GPU: nvcc where there is one, else NVRTC; and what a library's kernels need.

TVM, built here without the CUDA runtime, leaves the kernels in the library as source, for whoever loads it to
compile. A board has no compiler, so ``embed`` replaces that source by a cubin for the board's architecture.
"""

import os
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgepack.engine.stage import tool_version
from edgepack.errors import EdgepackError, InputError
from edgepack.toolchain import nvrtc

EM_CUDA = 190  # e_machine of a cubin
_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")


@dataclass(frozen=True)
class CudaKernel:
    """A kernel inside a compiled model: its name and the architecture it is compiled for."""

    name: str
    arch: str


def nvcc() -> str | None:
    """The nvcc on PATH or in ``CUDA_HOME``, None if there is none."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    return shutil.which("nvcc") or (shutil.which("nvcc", path=f"{home}/bin") if home else None)


def compiler_identity() -> str:
    """Which CUDA compiler compiles here, with its version: what it makes depends on it. Empty if there is none."""
    wish = os.environ.get("EDGEPACK_CUDA_COMPILER", "")
    compiler = nvcc() if wish != "nvrtc" else None
    if compiler:
        done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
        return " ".join(done.stdout.split()) or compiler
    library = nvrtc.library() if wish != "nvcc" else None
    return f"{library.name} {tool_version('nvidia-cuda-nvrtc')}" if library else ""


def compile_cubin(code: str, arch: str) -> bytes:
    """CUDA source to a cubin, with nvcc where there is one and NVRTC otherwise.

    ``EDGEPACK_CUDA_COMPILER`` set to ``nvcc`` or ``nvrtc`` insists on one of them.

    Raises:
        EdgepackError: There is neither, or the one there is fails.
    """
    wish = os.environ.get("EDGEPACK_CUDA_COMPILER", "")
    if wish not in {"", "nvcc", "nvrtc"}:
        raise EdgepackError(
            f"EDGEPACK_CUDA_COMPILER is {wish!r}", next="set it to nvcc or nvrtc, or unset it"
        )
    compiler = nvcc() if wish != "nvrtc" else None
    if compiler:
        return _run_nvcc(compiler, code, arch)
    library = nvrtc.library() if wish != "nvcc" else None
    if library:
        return nvrtc.compile_cubin(code, arch, library)
    raise EdgepackError(
        "there is no CUDA compiler on this machine",
        why=f"neither nvcc on PATH nor NVRTC in this Python{f' (only {wish} was allowed)' if wish else ''}",
        next="pip install 'edgepack[cuda]' for NVRTC (no GPU needed), or install the CUDA toolkit",
    )


def embed(blob: bytes, source: str, cubin: bytes) -> bytes:
    """Replace a CUDA module's source by its cubin in TVM's packed imports.

    The module is serialised as its format, a table of its functions, and the code, each string preceded by its
    length in 8 bytes; the module as a whole and the blob are preceded by their lengths, too.

    Args:
        blob: TVM's packed imports.
        source: The CUDA source inside.
        cubin: What it compiles to.

    Raises:
        EdgepackError: The blob does not hold the source in that form.
    """
    kind = _string(b"cuda")  # of the module, and again the format of its code
    end = blob.find(_string(source.encode())) + 8 + len(source.encode())
    start = blob.find(kind)
    while 0 <= start < end:
        module = start + len(kind)
        head = struct.pack("<Q", end - module - 8) + kind
        if blob.startswith(head, module):
            table = blob[module + len(head) : end - len(source.encode()) - 8]
            compiled = _string(_string(b"cubin") + table + _string(cubin))
            return _string(blob[8:module] + compiled + blob[end:])
        start = blob.find(kind, start + 1)
    raise EdgepackError("the compiled module does not hold its CUDA source as expected", next="report this")


def kernels(path: Path) -> tuple[CudaKernel, ...]:
    """The CUDA kernels inside a compiled model, read from the cubins in the file itself.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}", why=str(error)) from error
    found: list[CudaKernel] = []
    position = data.find(b"\x7fELF", 1)
    while position >= 0:
        found += _cubin_kernels(data[position:])
        position = data.find(b"\x7fELF", position + 4)
    return tuple(found)


def _run_nvcc(compiler: str, code: str, arch: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        source, cubin = Path(folder, "kernels.cu"), Path(folder, "kernels.cubin")
        source.write_text(code, encoding="utf-8")
        argv = [compiler, "--cubin", "-O3", "--std=c++17", f"-arch={arch}", "-o", cubin.name, source.name]
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise EdgepackError(
                f"nvcc cannot compile the model's kernels for {arch}",
                why=(done.stderr or done.stdout).strip(),
                next="use a CUDA toolkit that knows this architecture, or EDGEPACK_CUDA_COMPILER=nvrtc",
            )
        return cubin.read_bytes()


def _cubin_kernels(data: bytes) -> list[CudaKernel]:
    """The kernels of the cubin that ``data`` starts with; none if it is another kind of ELF file."""
    if len(data) < _ELF_HEADER.size:
        return []
    header = _ELF_HEADER.unpack_from(data)
    machine, sections_at, flags, section_size, count, names_index = (
        header[2],
        header[6],
        header[7],
        header[11],
        header[12],
        header[13],
    )
    if machine != EM_CUDA or section_size != _SECTION.size or len(data) < sections_at + count * section_size:
        return []
    sections = [_SECTION.unpack_from(data, sections_at + i * section_size) for i in range(count)]
    names_at = sections[names_index][4]
    found = []
    for section in sections:
        start = names_at + section[0]
        name = data[start : data.index(b"\0", start)].decode(errors="replace")
        if name.startswith(".text."):
            found.append(CudaKernel(name.removeprefix(".text."), f"sm_{_architecture(flags)}"))
    return found


def _architecture(flags: int) -> int:
    """The SM version in a cubin's e_flags: bits 8 to 15 since CUDA 13's ELF ABI 8, bits 0 to 7 before."""
    return flags >> 8 & 0xFF or flags & 0xFF


def _string(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content
