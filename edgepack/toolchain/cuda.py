"""Compile CUDA source to a cubin without a GPU, with nvcc if installed, else with NVRTC."""

import os
import shutil
import subprocess
from pathlib import Path

from edgepack.base.temporary import temporary_folder
from edgepack.errors import EdgepackError
from edgepack.toolchain import nvrtc


def nvcc() -> str | None:
    """Return the nvcc on PATH or in ``CUDA_HOME``; None if there is none."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    return shutil.which("nvcc") or (shutil.which("nvcc", path=f"{home}/bin") if home else None)


def compiler_identity() -> str:
    """Return name and version of the CUDA compiler in use, which affects the output; empty if there is none."""
    wish = os.environ.get("EDGEPACK_CUDA_COMPILER", "")
    compiler = nvcc() if wish != "nvrtc" else None
    if compiler:
        done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
        return " ".join(done.stdout.split()) or compiler
    library = nvrtc.library() if wish != "nvcc" else None
    return f"{library.name} {nvrtc.identity()}" if library else ""


def compile_cubin(code: str, arch: str) -> bytes:
    """Compile CUDA source to a cubin, with nvcc if installed, else with NVRTC.

    Set ``EDGEPACK_CUDA_COMPILER`` to ``nvcc`` or ``nvrtc`` to force one of them.

    Raises:
        EdgepackError: Neither is installed, or compilation fails.
    """
    wish = os.environ.get("EDGEPACK_CUDA_COMPILER", "")
    if wish not in {"", "nvcc", "nvrtc"}:
        raise EdgepackError(
            f"invalid EDGEPACK_CUDA_COMPILER {wish!r}", next="set it to nvcc or nvrtc, or unset it"
        )
    compiler = nvcc() if wish != "nvrtc" else None
    if compiler:
        return _run_nvcc(compiler, code, arch)
    library = nvrtc.library() if wish != "nvcc" else None
    if library:
        return nvrtc.compile_cubin(code, arch, library)
    raise EdgepackError(
        "no CUDA compiler found on this machine",
        why=f"neither nvcc on PATH nor NVRTC in this Python{f' (EDGEPACK_CUDA_COMPILER={wish})' if wish else ''}",
        next="pip install 'edgepack[cuda]' for NVRTC (no GPU needed), or install the CUDA toolkit",
    )


def _run_nvcc(compiler: str, code: str, arch: str) -> bytes:
    with temporary_folder() as folder:
        source, cubin = Path(folder, "kernels.cu"), Path(folder, "kernels.cubin")
        source.write_text(code, encoding="utf-8")
        argv = [compiler, "--cubin", "-O3", "--std=c++17", f"-arch={arch}", "-o", cubin.name, source.name]
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise EdgepackError(
                f"nvcc cannot compile the model's kernels for {arch}",
                why=(done.stderr or done.stdout).strip(),
                next="use a CUDA toolkit that supports this architecture, or EDGEPACK_CUDA_COMPILER=nvrtc",
            )
        return cubin.read_bytes()
