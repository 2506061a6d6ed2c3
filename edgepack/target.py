"""A target: for what a model is built. Data only; shipped in ``targets/*.yaml``."""

from typing import Any, Literal

from pydantic import Field

from edgepack.spec import Spec

SCHEMA_VERSION = 1

Family = Literal["arm_cpu", "raspberry_pi", "jetson", "x86"]


class Abi(Spec):
    """What the board's userland must offer to every binary in the bundle."""

    arch: Literal["aarch64", "x86_64"]
    libc: str = Field(pattern=r"^2\.\d+$", description="The glibc floor, e.g. 2.31.")


class Cpu(Spec):
    """The CPU as the schedules see it. Cache sizes in KiB, a core's own for L1 and L2 where private."""

    name: str
    cores: int = Field(ge=1)
    vector_bits: int = Field(ge=64)
    features: tuple[str, ...] = Field(default=(), description="ISA features the schedules may use.")
    l1d_kib: int = Field(ge=1)
    l2_kib: int = Field(ge=1)
    l3_kib: int | None = None


class Gpu(Spec):
    """The GPU of a Jetson, and the CUDA the board must have."""

    name: str
    arch: str = Field(pattern=r"^sm_\d+$")
    cuda: str = Field(pattern=r"^\d+\.\d+$", description="The lowest CUDA runtime the bundle works with.")
    jetpack: str = Field(description="The JetPack release that brings this CUDA.")


class Tuning(Spec):
    """How candidates are measured on this board."""

    timeout_s: float = Field(default=10.0, gt=0, description="A candidate that takes longer is dead.")
    cooldown_ms: int = Field(default=0, ge=0, description="Pause after each candidate.")
    cores: tuple[int, ...] = Field(default=(0,), description="Cores candidates are pinned to.")
    repeats: int = Field(default=3, ge=1, description="Samples per candidate.")
    min_repeat_ms: int = Field(default=20, ge=1, description="Each sample runs the kernel this long.")


class Note(Spec):
    """A fact about the board and where it comes from."""

    text: str
    source: str


class Target(Spec):
    """One kind of board: TVM target, ABI, schedule family, limits."""

    edgepack: Literal[1] = Field(description="Version of the target schema.")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    family: Family = Field(description="The schedule family, edgepack/schedules/<family>.py.")
    abi: Abi
    tvm: dict[str, Any] = Field(description="TVM's target dict, handed over as it is.")
    cpu: Cpu
    gpu: Gpu | None = None
    memory_mib: int = Field(ge=64)
    tune: Tuning = Tuning()
    notes: tuple[Note, ...] = ()

    @property
    def device_kind(self) -> Literal["cpu", "cuda"]:
        """Where the model's kernels run on this target."""
        return "cuda" if self.gpu else "cpu"
