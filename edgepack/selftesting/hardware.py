"""What only hardware shows: latency with its clocks, speed of the memory, the machine code of the kernels."""

from typing import TYPE_CHECKING, Any

from edgepack.selftesting.result import Check

if TYPE_CHECKING:
    from edgepack.agent.protocol import BoardModel, State
    from edgepack.selftesting.release import BuiltNet

LATENCY = ("latency", "latency of the tiny release, and the clocks meanwhile")
MEMORY = ("memory", "speed of a kernel that reads and writes 16 MiB")
MACHINE_CODE = ("machine-code", "the kernels ran as compiled for the GPU (SASS)")
_WARMUP, _RUNS = 10, 50
_COPY_RUNS = 20


def measure_latency(on: "BoardModel", built: "BuiltNet") -> Check:
    """Measure the latency of a release.

    Raises:
        AgentError: The model or the agent failed.
    """
    from edgepack.agent.protocol import bench
    from edgepack.measuring.measure import board_state
    from edgepack.measuring.stats import judge, summary

    raw = bench(on, built.inputs, warmup=_WARMUP, runs=_RUNS)
    latency = summary(raw.samples_ns)
    verdict = judge(
        raw.samples_ns, before=board_state(raw.before), after=board_state(raw.after), emulated=False
    )
    spread = latency.iqr / latency.p50 if latency.p50 else 0.0
    words = [
        f"p50 {latency.p50:.3f} ms, p90 {latency.p90:.3f} ms, spread {spread:.1%}",
        *_clocks(raw.after),
        *(f"not valid: {reason}" for reason in verdict.reasons),
    ]
    figures: dict[str, Any] = {
        "latency_ms": latency.model_dump(),
        "verdict": verdict.model_dump(mode="json"),
        "state": raw.after.model_dump(mode="json"),
    }
    return _measured(LATENCY, ", ".join(words), figures)


def measure_memory(on: "BoardModel", built: "BuiltNet") -> Check:
    """Measure how fast a kernel copies memory; on a Jetson, CPU and GPU share it.

    Raises:
        AgentError: The model or the agent failed.
    """
    from edgepack.agent.protocol import bench
    from edgepack.measuring.stats import summary

    raw = bench(on, built.inputs, warmup=_WARMUP, runs=_COPY_RUNS)
    moved = sum(array.nbytes for array in (*built.inputs.values(), *built.reference))
    p50 = summary(raw.samples_ns).p50
    rate = moved / (p50 / 1e3) / 1e9
    figures = {"bytes": moved, "p50_ms": p50, "gigabytes_per_second": rate}
    return _measured(MEMORY, f"{rate:.2f} GB/s ({p50:.3f} ms)", figures)


def check_machine_code(kernels: tuple[str, ...], arch: str, *, right: bool) -> Check:
    """That the cubins' own instructions gave the results above; on an emulated GPU, they do not run."""
    name, what = MACHINE_CODE
    return Check(
        group="hardware",
        name=name,
        checks=what,
        status="passed" if right else "failed",
        detail=f"{len(kernels)} kernels for {arch}" + ("" if right else ": see the checks that failed"),
    )


def _clocks(state: "State") -> list[str]:
    governors = ", ".join(dict.fromkeys(state.governor))
    gpus = [f"{gpu.name} {gpu.governor} {gpu.frequency_khz / 1000:g} MHz" for gpu in state.gpu]
    return [
        *([f"governor {governors}"] if governors else []),
        *([f"power mode {state.power_mode}"] if state.power_mode else []),
        *gpus,
    ]


def _measured(check: tuple[str, str], detail: str, figures: dict[str, Any]) -> Check:
    name, what = check
    return Check(group="hardware", name=name, checks=what, status="measured", detail=detail, figures=figures)
