"""Measuring on a board: latency through ``agent bench``, accuracy through ``agent run --each``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgepack.agent import protocol
from edgepack.errors import InputError
from edgepack.measuring.accuracy import BoardAccuracy, score, worst_parity
from edgepack.measuring.measurement import Measurement
from edgepack.measuring.stats import BoardState

if TYPE_CHECKING:
    import numpy as np

_CHUNK_BYTES = 64 << 20  # of samples on the board at once
_STICKY = 0xF0000  # raspberry_pi_flags: events since boot


def measure(
    on: protocol.BoardModel, inputs: Mapping[str, np.ndarray], *, warmup: int, runs: int, emulated: bool
) -> Measurement:
    """Measure the latency of a model on a board.

    Args:
        on: The model on its board.
        inputs: The model's inputs, in its own order, shapes and dtypes.
        warmup: Untimed inferences after the first one.
        runs: Timed inferences.
        emulated: The board is emulated: its latency is recorded and marked as invalid.

    Raises:
        AgentError: The model or the agent failed.
        UnreachableError: The connection was lost.
    """
    raw = protocol.bench(on, inputs, warmup=warmup, runs=runs)
    return Measurement.of(
        raw,
        device=on.session.name,
        emulated=emulated,
        before=board_state(raw.before),
        after=board_state(raw.after, since=raw.before),
    )


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
    labels: np.ndarray | None = None,
    reference: Sequence[np.ndarray] = (),
) -> BoardAccuracy:
    """Run test samples on the board and score the outputs.

    Samples go to the board in chunks of 64 MiB, so that a large test split fits a small ``/tmp``.

    Args:
        on: The model on its board; its first output holds the class scores.
        inputs: The model's inputs in its own order, each (N, *shape).
        labels: N * batch integers, for the accuracy.
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
    classes = outputs[0].shape[-1] if labels is not None else outputs[0][0].size
    found = score(
        outputs[0].reshape(-1, classes),
        labels=None if labels is None else labels.reshape(-1),
        reference=reference[0].reshape(-1, classes) if reference else None,
    )
    return found.model_copy(update={"parity": worst_parity(outputs, reference)}) if reference else found
