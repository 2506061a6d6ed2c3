"""Types of the agent's output lines. docs/agent-protocol.md describes each field's meaning."""

from typing import Literal

from pydantic import Field

from edgepack.spec import Spec


class Zone(Spec):
    """A thermal zone and its temperature."""

    zone: str
    celsius: float


class Throttling(Spec):
    """What limits the board's clocks now; None if the board does not report it."""

    raspberry_pi_flags: int | None = Field(default=None, description="As in `vcgencmd get_throttled`.")
    undervoltage: bool | None = None
    events: int = Field(description="x86: thermal throttle events since boot, summed over cores.")
    cooling: tuple[str, ...] | None = Field(
        default=None, description="Active cooling devices other than fans."
    )


class Rail(Spec):
    """A supply rail and its power, from a power monitor."""

    rail: str
    milliwatts: int


class GpuClock(Spec):
    """The clock of a GPU, from devfreq."""

    name: str
    governor: str
    frequency_khz: int
    frequency_max_khz: int


class State(Spec):
    """The state of the board at one moment; lists have one entry per core."""

    governor: tuple[str, ...]
    frequency_khz: tuple[int, ...]
    frequency_max_khz: tuple[int, ...]
    temperature: tuple[Zone, ...]
    power_mode: str | None = Field(default=None, description="Of a Jetson, as named by nvpmodel.")
    power: tuple[Rail, ...] = ()
    gpu: tuple[GpuClock, ...] = ()
    throttling: Throttling
    load_1min: float | None
    memory_available_kib: int

    @property
    def temperature_c(self) -> float | None:
        """The hottest zone in degrees Celsius."""
        return max((zone.celsius for zone in self.temperature), default=None)

    @property
    def throttled(self) -> bool | None:
        """Whether the clocks are limited at this moment; None if the board does not report it."""
        throttling = self.throttling
        if (throttling.raspberry_pi_flags, throttling.undervoltage, throttling.cooling) == (None, None, None):
            return None
        now = (throttling.raspberry_pi_flags or 0) & 0xF  # the higher bits mean "occurred since boot"
        return bool(now or throttling.undervoltage or throttling.cooling)


class Disk(Spec):
    """Free space in the folder for releases."""

    path: str
    free_bytes: int | None


class Runtime(Spec):
    """Versions the agent was built against (tvm) and runs with (tvm_ffi)."""

    tvm: str
    tvm_ffi: str | None = Field(description="None if the runtime cannot be loaded.")
    error: str | None = Field(description="Why it cannot be loaded.")


class Cuda(Spec):
    """CUDA support of the board."""

    l4t: str | None = Field(description="First line of /etc/nv_tegra_release.")
    runtimes: tuple[str, ...] = Field(description="libcudart files found.")
    driver: bool = Field(description="Whether libcuda.so.1 can be loaded.")
    loadable: bool = Field(description="Whether the CUDA runtime that TVM's library needs can be loaded.")


class BoardInfo(Spec):
    """Properties of the board, from ``info``."""

    ok: Literal[True]
    protocol: int
    agent: str
    arch: str
    libc: str | None
    kernel: str
    board: str | None
    emulation: str | None
    cpu: str | None
    features: tuple[str, ...]
    cores: int
    page_size: int
    memory_total_kib: int
    memory_available_kib: int
    disk: Disk
    runtime: Runtime | None
    cuda: Cuda
    state: State


class ModelOutput(Spec):
    """One output of the model: shape of one sample, counts over all samples."""

    dtype: str
    shape: tuple[int, ...]
    nan: int
    inf: int


class Ran(Spec):
    """The result line of ``run``."""

    ok: Literal[True]
    samples: int
    outputs: tuple[ModelOutput, ...]


class BenchStart(Spec):
    """The first line of ``bench``."""

    ok: Literal[True]
    protocol: int
    load_ms: float
    first_ms: float
    warmup: int
    runs: int
    threads: int
    before: State


class BenchSample(Spec):
    """One line of ``bench`` per timed inference."""

    ns: int


class BenchEnd(Spec):
    """The last line of ``bench``."""

    peak_rss_kib: int
    outputs: tuple[ModelOutput, ...]
    after: State


class BenchRaw(Spec):
    """All raw results of ``bench``."""

    load_ms: float = Field(
        description="Time to load the runtime and the model, and to start its virtual machine."
    )
    first_ms: float = Field(description="Time of the first inference after loading.")
    samples_ns: tuple[int, ...] = Field(description="Each timed inference, in order, CLOCK_MONOTONIC.")
    warmup: int = Field(description="Warm-up inferences between the first and the timed ones.")
    threads: int
    peak_rss_kib: int = Field(description="VmHWM of the agent's process.")
    outputs: tuple[ModelOutput, ...]
    before: State
    after: State


class ProfileStart(Spec):
    """The first line of ``profile``."""

    ok: Literal[True]
    protocol: int
    warmup: int
    runs: int
    threads: int
    kernels: tuple[str, ...]
    before: State


class CallTimes(Spec):
    """One line of ``profile`` per call of a kernel: over all runs, and in the run whose duration is the median."""

    min_ns: int
    median_ns: int
    p90_ns: int
    usual_ns: int


class ProfileEnd(Spec):
    """The last line of ``profile``."""

    plain_ns: tuple[int, ...]
    profiled_ns: tuple[int, ...]
    after: State


class ProfileRaw(Spec):
    """All raw results of ``profile``."""

    kernels: tuple[str, ...] = Field(description="Those that an inference calls, in order.")
    calls: tuple[CallTimes, ...]
    plain_ns: tuple[int, ...] = Field(description="Inferences without times, in turn with the profiled ones.")
    profiled_ns: tuple[int, ...]
    warmup: int
    threads: int
    before: State
    after: State


class Peak(Spec):
    """Multiply-accumulates that the board's cores do at the most, with instructions that the kernel calls ``isa``."""

    isa: str
    gmacs: float = Field(gt=0, description="In a second, in billions.")


class MemoryLevel(Spec):
    """The speed of memory of which ``bytes`` are used over and over: that of a cache which holds them."""

    bytes: int
    read_gbps: float = Field(gt=0, description="Bytes read in a second, in billions.")
    copy_gbps: float = Field(gt=0, description="Bytes read and written in a second, in billions.")


class BoardLimits(Spec):
    """The line of ``roofline``: what the board can do with a number of threads."""

    ok: Literal[True] = True
    protocol: int
    threads: int
    float32: Peak
    int8: Peak
    memory: tuple[MemoryLevel, ...] = Field(min_length=1, description="From the smallest to the largest.")


class Failure(Spec):
    """The last line of every command that fails."""

    ok: Literal[False]
    kind: str
    error: str


class BoardFacts(Spec, extra="ignore"):
    """The line of ``facts``: what decides whether a release can be stored and run."""

    arch: str
    bits: int = Field(description="Of the board's own programs: 32 or 64; 0 if unknown.")
    libc: str | None = Field(
        description="As 'glibc 2.36' or 'musl 1.2.3'; without a version if it is unknown."
    )
    features: frozenset[str] = Field(description="Of the CPU, as the kernel names them; empty if unknown.")
    folder: str = Field(description="The work directory, or its nearest parent that exists.")
    writable: bool
    noexec: bool
    free_bytes: int | None
    libraries: frozenset[str] = Field(description="Those asked for that the loader finds.")
    aside: dict[str, str] = Field(description="Those that it does not find, with their folder of CUDA.")
    gpu: bool = Field(description="Whether an NVIDIA device node exists.")
    l4t: str | None = Field(description="NVIDIA's release line on a Jetson.")
    soc: str | None = Field(default=None, description="On a Jetson, e.g. tegra234.")


class Settled(Spec):
    """The line of ``settle``: the agent on the board is in its place."""

    ok: Literal[True]
    sha256: str
