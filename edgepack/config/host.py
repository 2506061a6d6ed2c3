"""The build host as a target, detected from /proc and /sys without LLVM or TVM."""

import os
import platform
from pathlib import Path
from typing import Any

# /proc/cpuinfo flag: LLVM feature.
X86_FEATURES = {
    "ssse3": "ssse3",
    "sse4_1": "sse4.1",
    "sse4_2": "sse4.2",
    "avx": "avx",
    "avx2": "avx2",
    "f16c": "f16c",
    "fma": "fma",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512cd": "avx512cd",
    "avx512dq": "avx512dq",
    "avx512vl": "avx512vl",
    "avx512_vnni": "avx512vnni",
    "avx512_bf16": "avx512bf16",
    "avx_vnni": "avxvnni",
}
ARM_FEATURES = {
    "asimd": "neon",
    "crc32": "crc",
    "atomics": "lse",
    "asimddp": "dotprod",
    "asimdhp": "fullfp16",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "aes": "aes",
    "sha2": "sha2",
}
# System V ABI, AMD64 supplement, table 3.1, in /proc/cpuinfo's spelling (abm is LZCNT), highest level first.
_X86_LEVELS = (
    ("x86-64-v4", 512, {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    ("x86-64-v3", 256, {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    ("x86-64-v2", 128, {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"}),
)
# Main ID register, part number of Arm Ltd. (implementer 0x41): LLVM's name.
_ARM_PARTS = {
    "0xd03": "cortex-a53",
    "0xd07": "cortex-a57",
    "0xd08": "cortex-a72",
    "0xd0b": "cortex-a76",
    "0xd0c": "neoverse-n1",
    "0xd40": "neoverse-v1",
    "0xd42": "cortex-a78ae",
    "0xd49": "neoverse-n2",
    "0xd4f": "neoverse-v2",
}
_SMALLEST = {"l1d_kib": 32, "l2_kib": 256}  # if /sys has no cache sizes, as in some containers


def describe(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> dict[str, Any]:
    """The target ``host`` as the data of a target file; ``edgepack.config.target`` validates it."""
    arch = platform.machine()
    cpus = _cpuinfo((proc / "cpuinfo").read_text())
    cores = len(os.sched_getaffinity(0))
    cpu, tvm = _x86(cpus) if arch == "x86_64" else _arm(cpus)
    return {
        "edgepack": 1,
        "name": "host",
        "title": f"This machine: {cpu['name']}",
        "family": "x86" if arch == "x86_64" else "arm_cpu",
        "abi": {"arch": arch, "libc": platform.libc_ver()[1]},
        "tvm": {"kind": "llvm", "mtriple": f"{arch}-linux-gnu", **tvm, "num-cores": cores},
        "cpu": {**cpu, "cores": cores, **_SMALLEST, **_caches(sys / "devices/system/cpu/cpu0/cache")},
        "memory_mib": _memory_mib((proc / "meminfo").read_text()),
        "notes": [
            {
                "text": "Detected on this machine when the target is loaded.",
                "source": "/proc/cpuinfo, /proc/meminfo, /sys",
            }
        ],
    }


def _cpuinfo(text: str) -> list[dict[str, str]]:
    """One dict per CPU."""
    cpus = []
    for block in text.strip().split("\n\n"):
        pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
        cpus.append({key.strip(): value.strip() for key, value in pairs})
    return cpus


def _x86(cpus: list[dict[str, str]]) -> tuple[dict[str, Any], dict[str, Any]]:
    flags = set(cpus[0].get("flags", "").split())
    features = sorted(llvm for flag, llvm in X86_FEATURES.items() if flag in flags)
    level, bits = "x86-64", 128
    needed: set[str] = set()
    for name, width, _ in _X86_LEVELS:
        # A level includes all lower ones.
        needed = set().union(*(own for other, _, own in _X86_LEVELS if other <= name))
        if needed <= flags:
            level, bits = name, width
            break
    else:
        needed = set()
    extra = [f"+{X86_FEATURES[flag]}" for flag in sorted(X86_FEATURES) if flag in flags - needed]
    cpu = {"name": cpus[0].get("model name", "x86-64"), "vector_bits": bits, "features": features}
    return cpu, {"mcpu": level, **({"mattr": extra} if extra else {})}


def _arm(cpus: list[dict[str, str]]) -> tuple[dict[str, Any], dict[str, Any]]:
    cpus = [cpu for cpu in cpus if "CPU part" in cpu]
    flags = set.intersection(*(set(cpu.get("Features", "").split()) for cpu in cpus)) if cpus else set()
    features = sorted(llvm for flag, llvm in ARM_FEATURES.items() if flag in flags)
    parts = {cpu["CPU part"] for cpu in cpus if cpu.get("CPU implementer") == "0x41"}
    part = parts.pop() if len(parts) == 1 else ""  # big.LITTLE: features that all cores have
    cpu = {"name": _ARM_PARTS.get(part, "ARMv8-A"), "vector_bits": 128, "features": features or ["neon"]}
    # LLVM's model of the core may have features that this chip lacks, so these are disabled.
    signs = {f: "+" if f in features else "-" for f in ARM_FEATURES.values() if f != "neon"}
    mattr = [f"{sign}{f}" for f, sign in sorted(signs.items()) if part in _ARM_PARTS or sign == "+"]
    return cpu, {"mcpu": _ARM_PARTS.get(part, "generic"), **({"mattr": mattr} if mattr else {})}


def _caches(folder: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    names = {("1", "Data"): "l1d_kib", ("2", "Unified"): "l2_kib", ("3", "Unified"): "l3_kib"}
    for index in sorted(folder.glob("index*")):
        kind = (_word(index / "level"), _word(index / "type"))
        size = _word(index / "size")
        if kind in names and size.endswith("K") and size[:-1].isdecimal():
            sizes[names[kind]] = int(size[:-1])
    return sizes


def _word(path: Path) -> str:
    return path.read_text().strip() if path.is_file() else ""


def _memory_mib(meminfo: str) -> int:
    line = next(line for line in meminfo.splitlines() if line.startswith("MemTotal:"))
    return int(line.split()[1]) // 1024
