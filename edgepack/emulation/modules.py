"""Modules of the emulation: shared libraries made from the CUDA source of a cubin, cached, named by its digest.

A cubin itself holds instructions of a GPU, which the emulation does not run: the driver looks for the module that was
made from the same source, under the sha256 of the cubin.
"""

import filecmp
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from edgepack.base.paths import cache_dir
from edgepack.base.temporary import temporary_folder
from edgepack.emulation.driver import DRIVER, SOURCES, build_driver
from edgepack.emulation.rewrite import rewrite
from edgepack.errors import EdgepackError
from edgepack.toolchain.zig import link_shared, triple, zig

MODULES = "modules"  # the folder's name beside gpu.conf

# Every access to memory calls a function of the driver: clang's kernel address sanitizer, without its shadow memory.
# Vectorised code would join accesses, and lose which of them is at fault.
_CHECKS = (
    "-fsanitize=kernel-address",
    *("-mllvm", "-asan-instrumentation-with-call-threshold=0"),
    *("-mllvm", "-asan-stack=0"),
    *("-mllvm", "-asan-globals=0"),
    *("-mllvm", "-asan-kernel-mem-intrinsic-prefix=1"),
    # Threads' own arrays lie on their stacks, where those checks do not tell one from another.
    "-fsanitize=array-bounds,local-bounds,integer-divide-by-zero",
)
_LANGUAGE = (
    "-std=c++17",
    "-w",
    "-fno-exceptions",
    "-fno-rtti",
    "-nostdinc++",
    "-fvisibility=hidden",
    "-fno-vectorize",
    "-fno-slp-vectorize",
    "-fno-strict-aliasing",
    "-fwrapv",
    "-fno-strict-float-cast-overflow",
    *("-Xclang", "-ffloat16-excess-precision=none"),
    "-ffp-contract=fast",
)
_CODE = (
    "-O2",
    "-g0",
    "-fPIC",
    "-ftls-model=initial-exec",
    "-fno-sanitize=all",
    "-fno-stack-protector",
    "-fstack-clash-protection",
)
_INLINED = 256 << 10  # characters of source up to which the checks become part of the kernels
_CPU = {"x86_64": "x86_64", "aarch64": "cortex_a78"}
_UNKNOWN = re.compile(
    r"use of undeclared identifier '([^']+)'|unknown type name '([^']+)'|no member named '([^']+)'"
)


def build_module(source: str, digest: str, folder: Path, arch: str, libc: str) -> None:
    """Put the module of one CUDA source into ``folder/modules``, built if it is not in the cache.

    Args:
        source: CUDA source.
        digest: The sha256 of the cubin compiled from it.
        folder: The one with ``gpu.conf``.
        arch: ``aarch64`` or ``x86_64``.
        libc: The oldest glibc it runs with.

    Raises:
        EdgepackError: The source uses something that the emulation lacks, or zig failed.
    """
    text = rewrite(source)
    home = cache_dir() / "gpu" / "modules"
    kept = home / f"{_key(text, arch, libc)[:32]}.so"
    if not kept.is_file():
        home.mkdir(parents=True, exist_ok=True)
        with temporary_folder(home, "building-") as scratch:
            fresh = _compile(text, Path(scratch), arch, libc)
            os.replace(fresh, kept)  # noqa: PTH105 - atomic
    target = folder / MODULES / f"{digest}.so"
    if target.is_file() and filecmp.cmp(target, kept, shallow=False):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{digest}.{os.getpid()}.partial")
    shutil.copyfile(kept, partial)
    partial.chmod(0o755)
    partial.replace(target)


def _compile(text: str, scratch: Path, arch: str, libc: str) -> Path:
    code, bitcode, made, out = (scratch / f"module.{suffix}" for suffix in ("cpp", "bc", "o", "so"))
    code.write_text(text, encoding="utf-8")
    checks = [word for flag in _CHECKS for word in ("-Xclang", flag)]
    target = ("-target", triple(arch, libc))
    compiling = ("-c", *target, f"-mcpu={_cpu(arch)}", *_CODE)
    language = (*_LANGUAGE, *checks, f"-I{SOURCES}")
    # The checks are inserted last, as calls: a second run makes them part of the kernels. It halves the kernels' time,
    # and takes four times as long as the first.
    if len(text) <= _INLINED:
        _run(*compiling, *language, "-emit-llvm", "-o", str(bitcode), str(code))
        _run(*compiling, "-o", str(made), str(bitcode))
    else:
        _run(*compiling, *language, "-o", str(made), str(code))
    # Linked as everything else: zig would first build its run-time library for this very CPU.
    driver = build_driver(arch, libc) / DRIVER
    link_shared([made, driver], out, arch, libc)
    return out


def _run(*arguments: str) -> None:
    argv = [str(zig()), "c++", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, close_fds=False)
    if done.returncode:
        raise _refused(done.stderr)


def _refused(said: str) -> EdgepackError:
    lacking = dict.fromkeys(next(filter(None, found)) for found in _UNKNOWN.findall(said))
    return EdgepackError(
        "the emulated GPU cannot run these kernels",
        why=f"it has no {', '.join(lacking)}" if lacking else said.strip()[-2000:],
        next="use a schedule without it, or a real board; docs/virtual-boards.md lists what is emulated",
    )


@cache
def _cpu(arch: str) -> str:
    """Return zig's name of the CPU level: on x86-64 with fused multiply-add if this machine has it."""
    if arch == "x86_64" and os.uname().machine == arch:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        if re.search(r"^flags.*\bfma\b.*$", flags, re.MULTILINE) and " avx2 " in flags:
            return "x86_64_v3"
    return _CPU[arch]


@cache
def _fixed_key() -> str:
    digest = hashlib.sha256()
    for word in (importlib.metadata.version("ziglang"), *_LANGUAGE, *_CODE, *_CHECKS):
        digest.update(word.encode() + b"\0")
    for path in sorted(SOURCES.rglob("*.h")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _key(text: str, arch: str, libc: str) -> str:
    words = "\0".join((_fixed_key(), arch, libc, _cpu(arch), text))
    return hashlib.sha256(words.encode()).hexdigest()
