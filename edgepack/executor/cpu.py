"""How a CPU says which instructions it has: by CPUID on x86-64, in the auxiliary vector on aarch64.

CPUID: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, CPUID; AMD64 Architecture Programmer's
Manual, volume 3, appendix E. aarch64: Linux, arch/arm64/include/uapi/asm/hwcap.h.
"""

from collections.abc import Iterable
from dataclasses import dataclass

_EAX, _EBX, _ECX, _EDX = range(4)
_AVX, _AVX512 = 0b110, 0b11100110  # parts of the registers' state that the system saves and restores
_HWCAP, _HWCAP2 = 16, 26


@dataclass(frozen=True)
class CpuFeature:
    """Where to look for a feature.

    Attributes:
        name: LLVM's.
        leaf: of CPUID, or the number of an entry of the auxiliary vector.
        subleaf: of CPUID.
        register: the number of the register, in the order EAX, EBX, ECX, EDX.
        mask: the bits that are set.
        state: bits of XCR0 that have to be set, too.
    """

    name: str
    leaf: int
    subleaf: int
    register: int
    mask: int
    state: int


def _x86(name: str, leaf: int, register: int, bit: int, state: int = 0, *, subleaf: int = 0) -> CpuFeature:
    return CpuFeature(name, leaf, subleaf, register, 1 << bit, state)


def _arm(name: str, *bits: int, entry: int = _HWCAP) -> CpuFeature:
    return CpuFeature(name, entry, 0, 0, sum(1 << bit for bit in bits), 0)


FEATURES = {
    "x86_64": (
        _x86("sse3", 1, _ECX, 0),
        _x86("ssse3", 1, _ECX, 9),
        _x86("cx16", 1, _ECX, 13),
        _x86("sse4.1", 1, _ECX, 19),
        _x86("sse4.2", 1, _ECX, 20),
        _x86("movbe", 1, _ECX, 22),
        _x86("popcnt", 1, _ECX, 23),
        _x86("lzcnt", 0x80000001, _ECX, 5),
        _x86("bmi", 7, _EBX, 3),
        _x86("bmi2", 7, _EBX, 8),
        _x86("avx", 1, _ECX, 28, _AVX),
        _x86("f16c", 1, _ECX, 29, _AVX),
        _x86("fma", 1, _ECX, 12, _AVX),
        _x86("avx2", 7, _EBX, 5, _AVX),
        _x86("avxvnni", 7, _EAX, 4, _AVX, subleaf=1),
        _x86("avx512f", 7, _EBX, 16, _AVX512),
        _x86("avx512dq", 7, _EBX, 17, _AVX512),
        _x86("avx512ifma", 7, _EBX, 21, _AVX512),
        _x86("avx512cd", 7, _EBX, 28, _AVX512),
        _x86("avx512bw", 7, _EBX, 30, _AVX512),
        _x86("avx512vl", 7, _EBX, 31, _AVX512),
        _x86("avx512vbmi", 7, _ECX, 1, _AVX512),
        _x86("avx512vbmi2", 7, _ECX, 6, _AVX512),
        _x86("avx512vnni", 7, _ECX, 11, _AVX512),
        _x86("avx512bitalg", 7, _ECX, 12, _AVX512),
        _x86("avx512vpopcntdq", 7, _ECX, 14, _AVX512),
        _x86("avx512fp16", 7, _EDX, 23, _AVX512),
        _x86("avx512bf16", 7, _EAX, 5, _AVX512, subleaf=1),
    ),
    "aarch64": (
        _arm("neon", 0, 1),
        _arm("aes", 3),
        _arm("sha2", 6),
        _arm("crc", 7),
        _arm("lse", 8),
        _arm("fullfp16", 9, 10),
        _arm("rdm", 12),
        _arm("rcpc", 15),
        _arm("dotprod", 20),
        _arm("sve", 22),
        _arm("fp16fml", 23),
        _arm("sve2", 1, entry=_HWCAP2),
        _arm("i8mm", 13, entry=_HWCAP2),
        _arm("bf16", 14, entry=_HWCAP2),
    ),
}
"""By architecture."""


def features_to_check(arch: str, names: Iterable[str]) -> tuple[CpuFeature, ...]:
    """Return those of LLVM's features that a CPU may lack and kernels may use; others, as for tuning, are left out."""
    wanted = frozenset(names)
    return tuple(each for each in FEATURES[arch] if each.name in wanted)
