"""A measurement: raw samples, their summary, and the state of the board before and after."""

from collections.abc import Sequence
from statistics import median
from typing import Annotated, Literal, Self

from pydantic import Field

from edgepack.agent.results import BenchRaw
from edgepack.measuring.stats import BoardState, Latency, Verdict, judge, summary
from edgepack.spec import Finite
from edgepack.spec.document import JsonDocument


class Measurement(JsonDocument):
    """The latency of one model on one board."""

    hint = "measure again with: edgepack bench"

    kind: Literal["measurement"] = "measurement"
    edgepack: Literal[1] = Field(default=1, description="Version of the measurement schema.")
    device: str = Field(description="The device's name.")
    emulated: bool = Field(description="The device is emulated, so its latency is meaningless.")
    threads: int = Field(ge=1)
    warmup: int = Field(ge=0, description="Warm-up inferences before the first sample.")
    samples_ns: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        min_length=1, description="Latency of each inference in nanoseconds, in order."
    )
    latency: Latency = Field(description="Summary of samples_ns, in milliseconds.")
    starts: int = Field(default=1, ge=1, description="How often the model was loaded, each in a new process.")
    load_ms: Finite = Field(
        ge=0, description="Time to load the model and initialise its runtime; the median of the starts."
    )
    first_ms: Finite = Field(
        ge=0, description="Time of the first inference after loading; the median of the starts."
    )
    peak_rss_kib: int = Field(ge=0, description="Peak resident set size of the process.")
    before: BoardState
    after: BoardState
    verdict: Verdict

    @classmethod
    def of(
        cls,
        raw: BenchRaw,
        *,
        device: str,
        emulated: bool,
        before: BoardState,
        after: BoardState,
        starts: Sequence[BenchRaw] = (),
    ) -> Self:
        """A measurement from the agent's samples, with summary and verdict; ``starts`` are all starts, with this one.

        Raises:
            ValueError: No samples.
        """
        return cls(
            device=device,
            emulated=emulated,
            threads=raw.threads,
            warmup=raw.warmup,
            samples_ns=raw.samples_ns,
            latency=summary(raw.samples_ns),
            starts=len(starts) or 1,
            load_ms=median(start.load_ms for start in starts or (raw,)),
            first_ms=median(start.first_ms for start in starts or (raw,)),
            peak_rss_kib=raw.peak_rss_kib,
            before=before,
            after=after,
            verdict=judge(raw.samples_ns, before=before, after=after, emulated=emulated),
        )
