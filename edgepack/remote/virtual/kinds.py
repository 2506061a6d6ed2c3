"""The kinds of virtual boards: the host itself, and ARM boards under qemu-user."""

from dataclasses import dataclass

# What /proc/cpuinfo shows on real boards (arch/arm64/kernel/cpuinfo.c): programs read it to choose kernels.
_CPUINFO = """processor\t: {index}
BogoMIPS\t: 108.00
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: {variant}
CPU part\t: {part}
CPU revision\t: {revision}

"""
_ARMV8 = "fp asimd evtstrm crc32 cpuid"
_ARMV8_2 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
)


@dataclass(frozen=True)
class Kind:
    """One kind of virtual board.

    ``qemu_cpu`` is the CPU model qemu-user emulates, ``None`` for the host's own CPU: an instruction the
    real core lacks raises SIGILL here too. (The crypto extension is the exception: qemu's Cortex-A53 and
    A72 have it, the ones on Raspberry Pis do not.)
    """

    name: str
    title: str
    target: str
    qemu_cpu: str | None = None
    model: str = ""  # the last line of cpuinfo
    core: tuple[str, str, str] = ("", "", "")  # variant, part and revision in cpuinfo
    features: str = _ARMV8

    @property
    def emulated(self) -> bool:
        """Whether instructions are emulated, so that latency means nothing."""
        return self.qemu_cpu is not None

    def cpuinfo(self, cores: int) -> str:
        """The board's /proc/cpuinfo, for as many cores as sessions can use here."""
        variant, part, revision = self.core
        cpus = (
            _CPUINFO.format(index=i, features=self.features, variant=variant, part=part, revision=revision)
            for i in range(cores)
        )
        return "".join(cpus) + (f"Model\t\t: {self.model}\n" if self.model else "")


_A53 = ("0x0", "0xd03", "4")
_A72 = ("0x0", "0xd08", "3")
_A76 = ("0x4", "0xd0b", "1")

KINDS = {
    kind.name: kind
    for kind in (
        Kind("host", "this machine itself, over a real sshd on loopback", "host"),
        Kind("arm64", "generic ARMv8.0 under qemu-user", "arm64", "cortex-a53", core=_A53),
        Kind(
            "rpi3", "Cortex-A53 under qemu-user", "rpi3", "cortex-a53", "Raspberry Pi 3 Model B Rev 1.2", _A53
        ),
        Kind(
            "rpi4", "Cortex-A72 under qemu-user", "rpi4", "cortex-a72", "Raspberry Pi 4 Model B Rev 1.4", _A72
        ),
        Kind(
            "rpi5",
            "Cortex-A76 under qemu-user",
            "rpi5",
            "cortex-a76",
            "Raspberry Pi 5 Model B Rev 1.0",
            _A76,
            _ARMV8_2,
        ),
    )
}
