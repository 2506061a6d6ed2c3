"""The runtime libraries of a bundle, from the pinned wheels of apache-tvm and apache-tvm-ffi.

Wheels are on PyPI for both architectures; a wheel is 95 MB and only its libraries are kept. The digest
of every wheel and of every library is pinned here. All are stripped already. Their requirements on the board:

======================== ======= ======= ============ =================== =======================
library                  aarch64 x86_64  glibc floor  libstdc++ (both)    purpose
======================== ======= ======= ============ =================== =======================
libtvm_ffi.so            2.2 MB  2.5 MB  2.17         GLIBCXX_3.4.21      the C ABI
libtvm_runtime.so        3.0 MB  3.4 MB  2.27         GLIBCXX_3.4.22      virtual machine, threads
libtvm_runtime_extra.so  1.3 MB  1.3 MB  2.27         GLIBCXX_3.4.22      sort and random operators
libtvm_runtime_cuda.so   0.5 MB  0.5 MB  2.17         GLIBCXX_3.4.22      CUDA; needs libcudart.so.13
======================== ======= ======= ============ =================== =======================

GLIBCXX_3.4.22 came with GCC 6: every Debian, Ubuntu and JetPack with glibc 2.27 has it.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepack.base.paths import cache_dir
from edgepack.bundle.wheels import Wheel, sha256_of, unpack_wheel
from edgepack.errors import EdgepackError, IntegrityError
from edgepack.spec.runtime import BASE

TVM_VERSION = "0.27.0.post1"
FFI_VERSION = "0.1.14.post1"


@dataclass(frozen=True)
class Library:
    """A shared library inside a wheel; ``member`` is also its path below site-packages."""

    wheel: Wheel
    member: str
    sha256: str

    @property
    def name(self) -> str:
        """Its file name."""
        return self.member.rpartition("/")[2]


def _tvm(arch: str, sha256: str) -> Wheel:
    name = f"apache_tvm-{TVM_VERSION}-py3-none-manylinux_2_27_{arch}.manylinux_2_28_{arch}.whl"
    return Wheel(f"apache-tvm=={TVM_VERSION}", name, sha256, f"manylinux_2_28_{arch}")


def _ffi(arch: str, sha256: str) -> Wheel:
    name = f"apache_tvm_ffi-{FFI_VERSION}-cp311-cp311-manylinux_2_24_{arch}.manylinux_2_28_{arch}.whl"
    return Wheel(f"apache-tvm-ffi=={FFI_VERSION}", name, sha256, f"manylinux_2_28_{arch}")


_TVM_ARM = _tvm("aarch64", "4acfdb7653e4e1ba7a707bdf2833db72eb8fda7d04d99141f2a4e1da43171fb7")
_FFI_ARM = _ffi("aarch64", "c7a759781d4fbf2b99fa12f2741f250b882b06acc2747bb02831d491d1ac7d3c")
_TVM_X86 = _tvm("x86_64", "f503fc903b6e16fda5daacac6698ecb8bc38937f57da7aa29f6c7ab169d08657")
_FFI_X86 = _ffi("x86_64", "4b01a5a3fa07ed3315d5ef1e05d3542dae57a119ef7e77c54bc062414e242f65")

_FFI = "tvm_ffi/lib/libtvm_ffi.so"
_RUNTIME = "tvm/lib/libtvm_runtime.so"
_EXTRA = "tvm/lib/libtvm_runtime_extra.so"
_CUDA = "tvm/lib/libtvm_runtime_cuda.so"

LIBRARIES = {
    "aarch64": (
        Library(_FFI_ARM, _FFI, "673d816bd962daddb55d8b0f8ae137e797500307951d0f721227731df0c13e24"),
        Library(_TVM_ARM, _RUNTIME, "ba06950fac134b8d71549111fad2c6605cd6f738061fe0482f217c37ccbdff05"),
        Library(_TVM_ARM, _EXTRA, "741979814c4028d536a8a8ed1b9a6306ab23812ab3853803e5146cdde5778dcf"),
        Library(_TVM_ARM, _CUDA, "c277ef1b0b4afef83d0fa99f50b7ea72632c64a7020ce7ce887d225de13266e6"),
    ),
    "x86_64": (
        Library(_FFI_X86, _FFI, "e44372c658f0b5b6833f29402edfdd49d14a1e8ca50999d7e099f7c1f0822baa"),
        Library(_TVM_X86, _RUNTIME, "43544bbeaea3cd3ffa919f7eac77244753aff28d1440c42f1ba8df03fa6e3948"),
        Library(_TVM_X86, _EXTRA, "12a6fc3e6f1e50ae105d0b580c2ecddbac23473fa906f1fdc92693eae5bc22eb"),
        Library(_TVM_X86, _CUDA, "38782fe727adf51a82fa93de2a003044e16cd421564864a340dbd7f341215ffe"),
    ),
}


def runtime_libs(arch: str, names: Sequence[str] = BASE) -> dict[str, Path]:
    """Runtime libraries for ``arch`` by file name, each checked against its digest.

    On a host of the same architecture they are those of the installed packages; others are downloaded
    by pip once and kept. ``Compiled.runtime`` lists those that a compiled model needs.

    Raises:
        IntegrityError: A library or a wheel is not the pinned one.
        EdgepackError: A wheel cannot be downloaded, or none is pinned for ``arch`` or with that name.
    """
    if arch not in LIBRARIES:
        raise EdgepackError(f"no TVM runtime is pinned for {arch}", next=f"known: {', '.join(LIBRARIES)}")
    pinned = {library.name: library for library in LIBRARIES[arch]}
    for name in names:
        if name not in pinned:
            raise EdgepackError(f"no runtime library {name} is pinned", next=f"known: {', '.join(pinned)}")
    wanted = [pinned[name] for name in names]
    for wheel in dict.fromkeys(library.wheel for library in wanted if _find(library) is None):
        libraries = [library for library in LIBRARIES[arch] if library.wheel == wheel]
        unpack_wheel(wheel, [library.member for library in libraries], _cached_path(libraries[0]).parent)
    return {library.name: _verify(library) for library in wanted}


def _cached_path(library: Library) -> Path:
    return cache_dir() / "runtime" / library.wheel.sha256[:16] / library.name


def _find_installed(library: Library) -> Path | None:
    spec = importlib.util.find_spec(library.member.partition("/")[0])
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent.parent / library.member
    return path if path.is_file() and sha256_of(path) == library.sha256 else None


def _find(library: Library) -> Path | None:
    kept = _cached_path(library)
    return kept if kept.is_file() else _find_installed(library)


def _verify(library: Library) -> Path:
    path = _find(library)
    if path is None:
        raise IntegrityError(
            f"{library.name} is missing",
            where=str(_cached_path(library)),
            why="the cache changed while it was being read",
        )
    if sha256_of(path) != library.sha256:
        raise IntegrityError(
            f"{library.name} is not the library of {library.wheel.requirement}",
            where=str(path),
            why=f"its sha256 is not {library.sha256}",
            next=f"remove the folder {path.parent} and re-run the command",
        )
    return path
