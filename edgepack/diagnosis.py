"""Checks what this machine can do, by running each tool rather than comparing version numbers."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from edgepack.errors import EdgepackError


@dataclass(frozen=True)
class Diagnosis:
    """The result of one check: whether something that edgepack needs, or can use, works on this machine."""

    name: str
    ok: bool
    required: bool
    detail: str
    hint: str = ""


def examine() -> list[Diagnosis]:
    """Check everything that a run may need on the build host."""
    return [
        _run_check("tvm", _check_tvm, "reinstall edgepack in a fresh environment: pip install edgepack"),
        _run_check("onnxruntime", _check_onnxruntime, "pip install --force-reinstall onnxruntime"),
        _run_check("cross compiler", _check_compiler, "pip install ziglang"),
        _run_check(
            "runtime wheels",
            _check_wheels,
            "they are downloaded when the first bundle is built; check the network connection",
        ),
        _run_check("cache", _check_cache, "make the cache directory writable, or set XDG_CACHE_HOME"),
        _run_check(
            "virtual host",
            lambda: _check_programs("/usr/sbin/sshd"),
            "apt install openssh-server",
            required=False,
        ),
        _run_check(
            "emulated boards",
            _check_emulation,
            "apt install qemu-user-static openssh-server debian-archive-keyring",
            required=False,
        ),
        _run_check(
            "methods", _check_methods, "update or uninstall the package that provides it", required=False
        ),
        _run_check(
            "CUDA compiler", _check_cuda, "install nvcc, or: pip install 'edgepack[cuda]'", required=False
        ),
    ]


def _run_check(name: str, check: Callable[[], str], hint: str, *, required: bool = True) -> Diagnosis:
    try:
        return Diagnosis(name, ok=True, required=required, detail=check())
    except Exception as error:  # noqa: BLE001 - a broken installation may raise anything; the check reports it
        detail = error.why or error.message if isinstance(error, EdgepackError) else str(error)
        first = next(iter(detail.splitlines()), "") or type(error).__name__
        return Diagnosis(name, ok=False, required=required, detail=first[:120], hint=hint)


def _check_tvm() -> str:
    import tvm

    kinds = [name for name in ("llvm", "cuda") if tvm.runtime.enabled(name)]
    if "llvm" not in kinds:
        raise EdgepackError("this TVM has no LLVM code generator")
    return f"{version('apache-tvm')}, ffi {version('apache-tvm-ffi')}, {', '.join(kinds)}"


def _check_onnxruntime() -> str:
    from edgepack.export.reference import default_saturates

    saturating = "int8 saturates on this CPU by default (edgepack's reference is exact)"
    return f"{version('onnxruntime')}, {saturating if default_saturates() else 'int8 is exact on this CPU'}"


def _check_compiler() -> str:
    from edgepack.agent.build import build_agent
    from edgepack.toolchain.zig import MUSL

    sizes = [
        build_agent(arch, libc).stat().st_size for arch in ("aarch64", "x86_64") for libc in ("2.31", MUSL)
    ]
    return f"zig {version('ziglang')} builds the agent for aarch64 and x86_64 ({max(sizes) // 1000} kB)"


def _check_wheels() -> str:
    from edgepack.bundle.runtime import runtime_libs

    sizes = [sum(p.stat().st_size for p in runtime_libs(arch).values()) for arch in ("aarch64", "x86_64")]
    return f"TVM runtime for aarch64 and x86_64 ({max(sizes) / 1e6:.1f} MB)"


def _check_cache() -> str:
    from edgepack.base.paths import cache_dir

    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
    return f"{folder}, {shutil.disk_usage(folder).free / 1e9:.0f} GB free"


def _check_methods() -> str:
    from edgepack.compression.registry import REGISTRY

    if REGISTRY.unusable:
        raise EdgepackError("; ".join(f"{name}: {why}" for name, why in REGISTRY.unusable.items()))
    packages = Counter(method.origin for method in REGISTRY.methods.values())
    return f"{len(REGISTRY.methods)} compression methods from {', '.join(packages)}"


def _check_emulation() -> str:
    return _check_programs("qemu-aarch64-static", "qemu-x86_64-static", "apt-get", "dpkg-deb")


def _check_programs(*names: str) -> str:
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        raise EdgepackError(f"not installed: {', '.join(Path(name).name for name in missing)}")
    return ", ".join(Path(name).name for name in names)


def _check_cuda() -> str:
    from edgepack.toolchain.cuda import compile_cubin, nvcc

    compile_cubin(
        '#include <cuda_fp16.h>\nextern "C" __global__ void twice(half *x) { *x = *x + *x; }', "sm_87"
    )
    return f"{nvcc() or 'NVRTC'} compiles for sm_87"
