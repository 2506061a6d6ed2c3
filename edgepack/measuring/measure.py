"""Measuring on a board: latency through ``agent bench``, scores through ``agent run --each``."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from edgepack.agent import protocol
from edgepack.errors import InputError
from edgepack.measuring.accuracy import BoardAnswers, judge
from edgepack.measuring.measurement import Measurement
from edgepack.measuring.stats import BoardState

if TYPE_CHECKING:
    import numpy as np

    from edgepack.data.splits import Arrays
    from edgepack.scoring import Scorer

_CHUNK_BYTES = 64 << 20  # of samples on the board at once
_STARTS = 5  # of the model, whose load time and first inference are medians
_FEWEST_STARTS = 2  # besides the one that measures
_STARTS_SECONDS = 3.0  # after which no further one begins
_PACE_RUNS = 5  # timed inferences of a start, to see how long one takes
_LEAST_NS = 1e9  # of a measurement
_MOST_RUNS, _MOST_WARMUP = 10_000, 1_000_000  # the latter is the agent's limit
_STICKY = 0xF0000  # raspberry_pi_flags: events since boot


def measure(
    on: protocol.BoardModel, inputs: Mapping[str, np.ndarray], *, warmup: int, runs: int, emulated: bool
) -> Measurement:
    """Measure the latency of a model on a board.

    Args:
        on: The model on its board.
        inputs: The model's inputs, in its own order, shapes and dtypes.
        warmup: Untimed inferences after the first one, at least; see ``lasting``.
        runs: Timed inferences, at least; see ``lasting``.
        emulated: The board is emulated: its latency is recorded and marked as invalid, from one start of the model and
            as many inferences as given.

    Raises:
        AgentError: The model or the agent failed.
        UnreachableError: The connection was lost.
    """
    starts: list[protocol.BenchRaw] = []
    if not emulated:
        starts = _start_again(on, inputs)
        pace = median(sample for start in starts for sample in start.samples_ns)
        warmup, runs = lasting(pace, warmup, runs)
    raw = protocol.bench(on, inputs, warmup=warmup, runs=runs)
    return Measurement.of(
        raw,
        starts=(*starts, raw),
        device=on.session.name,
        emulated=emulated,
        before=board_state(raw.before),
        after=board_state(raw.after, since=raw.before),
    )


def _start_again(on: protocol.BoardModel, inputs: Mapping[str, np.ndarray]) -> list[protocol.BenchRaw]:
    """Load the model anew a few times, for the figures of which a start gives one sample; slow models fewer times."""
    began = time.monotonic()
    starts: list[protocol.BenchRaw] = []
    while len(starts) < _FEWEST_STARTS or (
        len(starts) < _STARTS - 1 and time.monotonic() - began < _STARTS_SECONDS
    ):
        starts.append(protocol.bench(on, inputs, warmup=0, runs=_PACE_RUNS))
    return starts


def lasting(pace_ns: float, warmup: int, runs: int) -> tuple[int, int]:
    """Warm-up and timed inferences that take a second together: a shorter measurement ends before the clocks rise.

    Args:
        pace_ns: Time of one inference.
        warmup: The smallest number of warm-up inferences.
        runs: The smallest number of timed inferences; they are increased first, up to 10,000.
    """
    needed = math.ceil(_LEAST_NS / max(pace_ns, 1.0))
    runs = max(runs, min(needed - warmup, _MOST_RUNS))
    return max(warmup, min(needed - runs, _MOST_WARMUP)), runs


def board_state(state: protocol.State, *, since: protocol.State | None = None) -> BoardState:
    """Convert the board state reported by the agent.

    With ``since``, throttling between the two moments counts as well: new thermal
    events of x86 cores, new since-boot bits of a Raspberry Pi.
    """
    throttled = state.throttled
    if since is not None:
        now, then = state.throttling, since.throttling
        fresh = (now.raspberry_pi_flags or 0) & ~(then.raspberry_pi_flags or 0) & _STICKY
        if now.events > then.events or fresh:
            throttled = True
    return BoardState(
        governor=", ".join(dict.fromkeys(state.governor)) or None,
        frequency_khz=state.frequency_khz,
        temperature_c=state.temperature_c,
        throttled=throttled,
        load_1min=state.load_1min,
        memory_available_kib=state.memory_available_kib,
    )


def evaluate(
    on: protocol.BoardModel,
    inputs: Mapping[str, np.ndarray],
    *,
    scorer: Scorer,
    targets: Arrays = None,
    reference: Sequence[np.ndarray] = (),
) -> BoardAnswers:
    """Run test samples on the board and score the outputs.

    Samples go to the board in chunks of 64 MiB, so that a large test split fits a small disk.

    Args:
        on: The model on its board.
        inputs: The model's inputs in its own order, each (N, *shape).
        scorer: The recipe's metric.
        targets: (N * batch, ...), or several of them by name; None for no score.
        reference: onnxruntime's outputs, each (N, *shape), for the parity; one for each output, in order.

    Raises:
        InputError: No samples, or arrays that do not match.
        AgentError: The model or the agent failed.
        UnreachableError: The connection was lost.
    """
    import numpy as np

    count = min((len(array) for array in inputs.values()), default=0)
    if not count or any(len(array) != count for array in (*inputs.values(), *reference)):
        raise InputError("inputs and reference outputs hold different numbers of samples, or none")
    per_chunk = max(1, _CHUNK_BYTES // max(sum(array[:1].nbytes for array in inputs.values()), 1))
    chunks = []
    for start in range(0, count, per_chunk):
        part = {name: array[start : start + per_chunk] for name, array in inputs.items()}
        chunks.append(protocol.run(on, part, each=True))
    outputs = [np.concatenate(parts) for parts in zip(*chunks, strict=True)]
    first = next(iter(inputs.values())).shape[1:]
    return judge(
        outputs,
        batch=first[0] if first else None,
        scorer=scorer,
        targets=targets,
        reference=reference,
    )
