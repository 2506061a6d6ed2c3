"""The time of each kernel of a model on a board, beside what the kernel does and what the board can do."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from edgepack.agent import profiling
from edgepack.agent.protocol import BoardModel
from edgepack.agent.results import BoardLimits, ProfileRaw
from edgepack.errors import InputError
from edgepack.measuring.measure import board_state
from edgepack.measuring.stats import NS_PER_MS, BoardState, percentile
from edgepack.spec import Count, Finite, Spec
from edgepack.spec.document import JsonDocument
from edgepack.spec.kernels import CalledKernel, KernelList, KernelWork, NodeRef

if TYPE_CHECKING:
    import numpy as np

Bound = Literal["compute", "memory"]

_COPY = KernelWork(
    name="copy", tuned=False, read=0, written=0
)  # of a result that is an input, or two results


class CallProfile(Spec):
    """A call of a kernel."""

    kernel: str
    nodes: tuple[NodeRef, ...] = Field(description="The ONNX nodes that it computes; empty if not known.")
    min_ms: Finite
    median_ms: Finite
    p90_ms: Finite
    usual_ms: Finite = Field(description="In the inference whose duration is the median.")


class KernelProfile(Spec):
    """A kernel: all of its calls in an inference together."""

    name: str
    tuned: bool = Field(description="Scheduled from tuning records.")
    calls: Count
    ms: Finite = Field(description="The sum of the calls' medians.")
    share: Finite = Field(description="Of the time of all kernels.")
    macs: Count = Field(description="Multiply-accumulates, of all calls.")
    arithmetic: str | None = Field(description="Type of the numbers that are multiplied and added.")
    gmacs: Finite | None = Field(
        description="Multiply-accumulates in a second, in billions; None if there are none."
    )
    bytes: Count = Field(description="Read and written: tensors of all calls, weights included.")
    roofline: Finite | None = Field(
        default=None, description="Share of what the board can do; None if that is not known."
    )
    bound: Bound | None = Field(default=None, description="Which of the board's limits is the nearer one.")
    nodes: tuple[NodeRef, ...]


class Overhead(Spec):
    """How much longer an inference with times takes than the plain one beside it, relative to that; percentiles of the pairs."""

    median: Finite
    p25: Finite
    p75: Finite


class ModelProfile(JsonDocument):
    """The kernels of one model on one board, with their times."""

    hint = "measure again with: edgepack profile"

    kind: Literal["profile"] = "profile"
    edgepack: Literal[1] = Field(default=1, description="Version of this document.")
    model: str = Field(description="Name, version and candidate of the bundle.")
    device: str
    emulated: bool = Field(description="The device is emulated, so times mean nothing.")
    threads: int = Field(ge=1)
    warmup: Count
    runs: Count = Field(description="Inferences with times, and as many plain ones.")
    kernels: tuple[KernelProfile, ...] = Field(description="The slowest first.")
    calls: tuple[CallProfile, ...] = Field(description="In order.")
    plain_ms: Finite = Field(description="An inference without times: the median.")
    overhead: Overhead
    roofline: BoardLimits | None = Field(
        default=None, description="What the board can do; None if it is emulated."
    )
    before: BoardState
    after: BoardState

    @property
    def kernels_ms(self) -> float:
        """The time of all kernels in an inference."""
        return sum(kernel.ms for kernel in self.kernels)

    @classmethod
    def of(
        cls,
        raw: ProfileRaw,
        listed: KernelList,
        *,
        model: str,
        device: str,
        emulated: bool,
        working_set: int,
        roofline: BoardLimits | None,
    ) -> Self:
        """A profile from the agent's times.

        Args:
            raw: what the agent measured.
            listed: the bundle's list of kernels.
            model: name of the bundle.
            device: name of the device.
            emulated: the device is emulated.
            working_set: bytes that an inference touches, which decide in which cache they are.
            roofline: what the board can do.

        Raises:
            InputError: the list is another model's.
        """
        copies = raw.kernels[len(listed.calls) :]
        called = (*listed.calls, *(CalledKernel(kernel=_COPY.name) for _ in copies))
        if [call.kernel for call in called] != list(raw.kernels) or len(raw.calls) != len(called):
            raise InputError(
                "the bundle's list of kernels is not that of its model",
                where=model,
                next="rebuild the bundle: edgepack package",
            )
        calls = tuple(
            CallProfile(
                kernel=call.kernel,
                nodes=call.nodes,
                min_ms=times.min_ns / NS_PER_MS,
                median_ms=times.median_ns / NS_PER_MS,
                p90_ms=times.p90_ns / NS_PER_MS,
                usual_ms=times.usual_ns / NS_PER_MS,
            )
            for call, times in zip(called, raw.calls, strict=True)
        )
        return cls(
            model=model,
            device=device,
            emulated=emulated,
            threads=raw.threads,
            warmup=raw.warmup,
            runs=len(raw.plain_ns),
            kernels=_kernels(calls, listed, None if emulated else roofline, working_set),
            calls=calls,
            plain_ms=median(raw.plain_ns) / NS_PER_MS,
            overhead=_overhead(raw.plain_ns, raw.profiled_ns),
            roofline=None if emulated else roofline,
            before=board_state(raw.before),
            after=board_state(raw.after, since=raw.before),
        )


def _overhead(plain: Sequence[int], profiled: Sequence[int]) -> Overhead:
    ratios = [taken / max(alone, 1) - 1 for taken, alone in zip(profiled, plain, strict=True)]
    return Overhead(median=percentile(ratios, 50), p25=percentile(ratios, 25), p75=percentile(ratios, 75))


def _kernels(
    calls: Sequence[CallProfile], listed: KernelList, roofline: BoardLimits | None, working_set: int
) -> tuple[KernelProfile, ...]:
    works = {work.name: work for work in (*listed.kernels, _COPY)}
    total = sum(call.median_ms for call in calls)
    rows = []
    for name in dict.fromkeys(call.kernel for call in calls):
        own = [call for call in calls if call.kernel == name]
        work, spent = works[name], sum(call.median_ms for call in own)
        limit, bound = _limit(work, roofline, working_set)
        seconds = spent / 1e3
        rows.append(
            KernelProfile(
                name=name,
                tuned=work.tuned,
                calls=len(own),
                ms=spent,
                share=spent / total if total else 0.0,
                macs=work.macs * len(own),
                arithmetic=work.arithmetic,
                gmacs=work.macs * len(own) / seconds / 1e9 if work.macs and seconds else None,
                bytes=(work.read + work.written) * len(own),
                roofline=limit * len(own) / seconds if limit is not None and seconds else None,
                bound=bound,
                nodes=_all_nodes(own),
            )
        )
    return tuple(sorted(rows, key=lambda row: -row.ms))


def _all_nodes(calls: Iterable[CallProfile]) -> tuple[NodeRef, ...]:
    return tuple(dict.fromkeys(node for call in calls for node in call.nodes))


def _limit(
    work: KernelWork, roofline: BoardLimits | None, working_set: int
) -> tuple[float | None, Bound | None]:
    """Return the seconds that a call takes at the least, and what limits it (Williams, Waterman and Patterson, Roofline, 2009).

    Memory is as fast as it is for all that an inference touches: a model that fits into a cache is not read from memory.
    """
    if roofline is None:
        return None, None
    levels = [level for level in roofline.memory if level.bytes >= working_set] or [roofline.memory[-1]]
    moved = (work.read + work.written) / (max(levels[0].read_gbps, levels[0].copy_gbps) * 1e9)
    peaks = {"float32": roofline.float32.gmacs, "int8": roofline.int8.gmacs}
    if not work.macs:
        return moved, "memory"
    if work.arithmetic not in peaks:
        return None, None
    computed = work.macs / (peaks[work.arithmetic] * 1e9)
    return max(computed, moved), "compute" if computed > moved else "memory"


def profile(
    on: BoardModel,
    inputs: Mapping[str, "np.ndarray"],
    listed: KernelList,
    *,
    model: str,
    working_set: int,
    warmup: int,
    runs: int,
    emulated: bool,
) -> ModelProfile:
    """Measure the kernels of a model on a board, and what the board can do unless it is emulated.

    Args:
        on: The model on its board.
        inputs: The model's inputs, in its own order, shapes and dtypes.
        listed: The bundle's list of kernels.
        model: The bundle's name.
        working_set: Bytes of weights and of all tensors of an inference.
        warmup: Inferences before the first one that counts.
        runs: Inferences with times of kernels, and as many without.
        emulated: The board is emulated.

    Raises:
        AgentError: The model or the agent failed.
        InputError: The list of kernels is another model's.
        UnreachableError: The connection was lost.
    """
    raw = profiling.profile(on, inputs, warmup=warmup, runs=runs)
    return ModelProfile.of(
        raw,
        listed,
        model=model,
        device=on.session.name,
        emulated=emulated,
        working_set=working_set,
        roofline=None if emulated else profiling.roofline(on),
    )
