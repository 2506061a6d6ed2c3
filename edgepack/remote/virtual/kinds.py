"""The kinds of virtual boards: the host itself, and ARM and x86-64 boards under qemu-user; some with an emulated GPU."""

from dataclasses import dataclass
from typing import Literal

from edgepack.remote.virtual.jetsons import ORIN, THOR, Jetson

# /proc/cpuinfo of real boards (arch/arm64/kernel/cpuinfo.c), which programs read to choose kernels.
_ARM_CPUINFO = """processor\t: {index}
BogoMIPS\t: 108.00
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: {variant}
CPU part\t: {part}
CPU revision\t: {revision}

"""
# As in arch/x86/kernel/cpu/proc.c.
_X86_CPUINFO = """processor\t: {index}
vendor_id\t: GenuineIntel
model name\t: {model}
flags\t\t: {features}

"""
_ARMV8 = "fp asimd evtstrm crc32 cpuid"
_ARMV8_2 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
)
# The levels of the System V ABI, AMD64 supplement, table 3.1, as named by the kernel.
_X86_64 = "fpu tsc cx8 cmov mmx fxsr sse sse2 syscall nx lm constant_tsc"
_X86_64_V2 = f"{_X86_64} pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm"
_X86_64_V3 = f"{_X86_64_V2} fma movbe xsave avx f16c rdrand abm bmi1 avx2 bmi2"
_ARMV9 = f"{_ARMV8_2} sve sve2 i8mm bf16"  # the part of it that targets ask for

BOOKWORM = "bookworm"  # the base of Raspberry Pi OS 12: glibc 2.36
TRIXIE = "trixie"  # glibc 2.41: JetPack 7 has 2.39


@dataclass(frozen=True)
class GpuModel:
    """What an emulated GPU says of itself."""

    name: str
    compute: str  # compute capability
    memory_mib: int
    multiprocessors: int


@dataclass(frozen=True)
class Kind:
    """One kind of virtual board.

    ``qemu_cpu`` is the CPU model that qemu-user emulates, ``None`` for the host's own CPU: an instruction that the
    real core lacks raises SIGILL here, too. (The crypto extension is an exception: qemu's Cortex-A53 and A72
    have it, those of Raspberry Pis do not.) ``arch`` is its userland's architecture, as reported by ``uname -m``, and
    ``suite`` the Debian release that it consists of.
    """

    name: str
    title: str
    target: str
    qemu_cpu: str | None = None
    arch: Literal["aarch64", "x86_64"] = "aarch64"
    model: str = ""  # in cpuinfo: ARM's last line, x86's model name
    core: tuple[str, str, str] = ("", "", "")  # variant, part and revision in cpuinfo
    features: str = _ARMV8
    suite: str = BOOKWORM
    gpu: GpuModel | None = None
    jetson: Jetson | None = None

    @property
    def foreign(self) -> bool:
        """Whether it has a userland of its own, whose instructions are emulated."""
        return self.qemu_cpu is not None

    @property
    def emulated(self) -> bool:
        """Whether the CPU or the GPU is emulated, so that latency is meaningless."""
        return self.foreign or self.gpu is not None

    def cpuinfo(self, cores: int) -> str:
        """The board's /proc/cpuinfo, with as many cores as sessions can use on this machine."""
        if self.arch == "x86_64":
            return "".join(
                _X86_CPUINFO.format(index=i, model=self.model, features=self.features) for i in range(cores)
            )
        variant, part, revision = self.core
        cpus = (
            _ARM_CPUINFO.format(
                index=i, features=self.features, variant=variant, part=part, revision=revision
            )
            for i in range(cores)
        )
        return "".join(cpus) + (f"Model\t\t: {self.model}\n" if self.model else "")


_A53 = ("0x0", "0xd03", "4")
_A72 = ("0x0", "0xd08", "3")
_A76 = ("0x4", "0xd0b", "1")
_A78AE = ("0x0", "0xd42", "1")
_V3AE = ("0x0", "0xd83", "1")

# deviceQuery of an Orin Nano: 8 multiprocessors, and the memory of the board, less what the firmware keeps.
_ORIN_NANO = GpuModel("Orin", "8.7", 7620, 8)
# CUDA's device attributes on an AGX Thor: 20 multiprocessors.
_THOR = GpuModel("NVIDIA Thor", "11.0", 125772, 20)

KINDS = {
    kind.name: kind
    for kind in (
        Kind("host", "this machine itself, over a real sshd on loopback", "host"),
        Kind("arm64", "generic ARMv8.0 under qemu-user", "arm64", "cortex-a53", core=_A53),
        Kind(
            "rpi3",
            "Cortex-A53 under qemu-user",
            "rpi3",
            "cortex-a53",
            model="Raspberry Pi 3 Model B Rev 1.2",
            core=_A53,
        ),
        Kind(
            "rpi4",
            "Cortex-A72 under qemu-user",
            "rpi4",
            "cortex-a72",
            model="Raspberry Pi 4 Model B Rev 1.4",
            core=_A72,
        ),
        Kind(
            "rpi5",
            "Cortex-A76 under qemu-user",
            "rpi5",
            "cortex-a76",
            model="Raspberry Pi 5 Model B Rev 1.0",
            core=_A76,
            features=_ARMV8_2,
        ),
        # qemu 7.2 has no Cortex-A78AE. Its Cortex-A76 has all that targets ask of one: Armv8.2 with dot products, half
        # precision, large system extensions, AES, SHA-2 and CRC32.
        Kind(
            "jetson-orin",
            "Jetson Orin: Cortex-A76 under qemu-user, emulated GPU",
            "jetson-orin",
            "cortex-a76",
            core=_A78AE,
            features=_ARMV8_2,
            suite=TRIXIE,
            gpu=_ORIN_NANO,
            jetson=ORIN,
        ),
        # qemu 7.2 has no Armv9 core: "max" has all that it can emulate, more than a Neoverse V3AE has. Its vectors are
        # of 128 bits, as in that core.
        Kind(
            "jetson-thor",
            "Jetson Thor: all that qemu-user knows of Armv9, emulated GPU",
            "jetson-thor",
            "max,pauth-impdef=on,sve-default-vector-length=16",
            core=_V3AE,
            features=_ARMV9,
            suite=TRIXIE,
            gpu=_THOR,
            jetson=THOR,
        ),
        Kind(
            "host-gpu",
            "this machine itself, with the emulated GPU of a Jetson Orin",
            "host-gpu",
            arch="x86_64",
            gpu=_ORIN_NANO,
        ),
        Kind(
            "x86-64-v2",
            "x86-64 with SSE4.2 and no AVX under qemu-user",
            "x86-64-v2",
            "Nehalem",
            "x86_64",
            "Nehalem (qemu-user)",
            features=_X86_64_V2,
        ),
        # Features unknown to qemu-user are disabled, since it would warn about them on every program's stderr.
        Kind(
            "x86-64-v3",
            "x86-64 with AVX2 and no AVX-512 under qemu-user",
            "x86-64-v3",
            "Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid",
            "x86_64",
            "Haswell (qemu-user)",
            features=_X86_64_V3,
        ),
    )
}
