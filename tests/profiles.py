"""A profile of a made-up model, whose figures can be computed by hand."""

from edgepack.agent.results import BoardLimits, CallTimes, MemoryLevel, Peak, ProfileRaw, State, Throttling
from edgepack.measuring.profile import ModelProfile
from edgepack.spec.kernels import CalledKernel, KernelList, KernelWork, NodeRef

STATE = State(
    governor=("performance",),
    frequency_khz=(1_500_000,),
    frequency_max_khz=(1_500_000,),
    temperature=(),
    throttling=Throttling(events=0),
    load_1min=0.1,
    memory_available_kib=1000,
)
BOARD = BoardLimits(
    protocol=1,
    threads=1,
    float32=Peak(isa="fma", gmacs=50.0),
    int8=Peak(isa="avx2", gmacs=100.0),
    memory=(
        MemoryLevel(bytes=1000, read_gbps=100.0, copy_gbps=80.0),
        MemoryLevel(bytes=100_000, read_gbps=9.0, copy_gbps=10.0),
    ),
)
CONV = (NodeRef(name="c", operator="Conv", module="stem.0"), NodeRef(name="r", operator="Relu"))
LISTED = KernelList(
    kernels=(
        KernelWork(name="conv", tuned=True, arithmetic="float32", macs=100_000, read=3000, written=1000),
        KernelWork(name="pool", tuned=False, read=30_000, written=10_000),
    ),
    calls=(
        CalledKernel(kernel="conv", nodes=CONV),
        CalledKernel(kernel="pool"),
        CalledKernel(kernel="conv", nodes=(NodeRef(name="d", operator="Conv", module="stem.1"),)),
    ),
)


def raw(*medians_ns, kernels=("conv", "pool", "conv"), plain=(100, 100, 100), profiled=(101, 102, 104)):
    calls = [CallTimes(min_ns=ns - 1, median_ns=ns, p90_ns=ns + 9, usual_ns=ns + 2) for ns in medians_ns]
    return ProfileRaw(
        kernels=kernels,
        calls=tuple(calls),
        plain_ns=plain,
        profiled_ns=profiled,
        warmup=1,
        threads=1,
        before=STATE,
        after=STATE,
    )


def profile(raw_times=None, *, roofline=BOARD, working_set=5000, emulated=False):
    return ModelProfile.of(
        raw_times or raw(4000, 8000, 4000),
        LISTED,
        model="net 1 (release) for x86-64-v3",
        device="board",
        emulated=emulated,
        working_set=working_set,
        roofline=roofline,
    )
