"""Measuring on a board: latency through ``agent bench``, accuracy through ``agent run --each``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from edgepack.agent import protocol
from edgepack.bench.accuracy import BoardAccuracy, score
from edgepack.bench.measurement import Measurement
from edgepack.bench.stats import BoardState
from edgepack.errors import InputError
from edgepack.recipe import Bench, Input

if TYPE_CHECKING:
    import numpy as np

_CHUNK_BYTES = 64 << 20  # of samples on the board at once
_STICKY = 0xF0000  # raspberry_pi_flags: what has happened since boot


def measure(
    session: protocol.Session,
    agent: str,
    model: str,
    inputs: Mapping[str, np.ndarray],
    spec: Bench,
    *,
    emulated: bool,
    device: protocol.DeviceKind = "cpu",
    cores: Sequence[int] = (),
    timeout: float | None = None,
) -> Measurement:
    """Measure the latency of a model on a board.

    Args:
        session: A connection to the board.
        agent: The agent's path on the board, in an installed release or a scratch folder.
        model: The compiled model's path on the board.
        inputs: The model's inputs, in its own order, shapes and dtypes.
        spec: Warm-up, runs and threads.
        emulated: The board is emulated: its latency is taken, labelled and never believed.
        device: Where the kernels run.
        cores: Pin the process to these cores.
        timeout: Seconds for the whole command.

    Raises:
        AgentError: The model or the agent failed.
        UnreachableError: The connection was lost.
    """
    raw = protocol.bench(
        session,
        agent,
        model,
        inputs,
        warmup=spec.warmup,
        runs=spec.runs,
        threads=spec.threads,
        device=device,
        cores=cores,
        timeout=timeout,
    )
    return Measurement.of(
        raw.samples_ns,
        device=session.name,
        emulated=emulated,
        threads=raw.threads,
        warmup=raw.warmup,
        load_ms=raw.load_ms,
        first_ms=raw.first_ms,
        peak_rss_kib=raw.peak_rss_kib,
        before=board_state(raw.before),
        after=board_state(raw.after, since=raw.before),
    )


def board_state(state: protocol.State, *, since: protocol.State | None = None) -> BoardState:
    """The agent's view of the board as a measurement keeps it.

    With ``since``, throttling that came and went between the two moments counts as well: new thermal
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
    session: protocol.Session,
    agent: str,
    model: str,
    spec: Input,
    samples: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    reference: np.ndarray | None = None,
    threads: int = 1,
    device: protocol.DeviceKind = "cpu",
    timeout: float | None = None,
) -> BoardAccuracy:
    """Run test samples on the board and score what comes back.

    Args:
        session: A connection to the board.
        agent: The agent's path on the board.
        model: The compiled model's path on the board; one input, its first output the class scores.
        spec: The input; its first axis is the batch.
        samples: (N, *sample), cast to the input's dtype.
        labels: (N,) integers, for the accuracy.
        reference: (N, classes), onnxruntime's outputs, for the parity.
        threads: Threads of TVM's pool.
        device: Where the kernels run.
        timeout: Seconds for each command on the board.

    Raises:
        InputError: The samples do not fit the input, or there are none.
        AgentError: The model or the agent failed.
        UnreachableError: The connection was lost.
    """
    import numpy as np

    parts = []
    for count, batches in _batches(samples, spec):
        outputs = protocol.run(
            session,
            agent,
            model,
            {spec.name: batches},
            each=True,
            threads=threads,
            device=device,
            timeout=timeout,
        )
        first = outputs[0]  # (batches, batch, ...)
        parts.append(first.reshape(first.shape[0] * spec.shape[0], -1)[:count])
    flat = None if reference is None else reference.reshape(len(reference), -1)
    return score(np.concatenate(parts), labels=labels, reference=flat)


def _batches(samples: np.ndarray, spec: Input) -> Iterator[tuple[int, np.ndarray]]:
    """Samples as (batches, *spec.shape) a chunk, the last batch filled with copies, and how many are real."""
    import numpy as np

    batch, *sample = spec.shape
    if not len(samples) or samples.shape[1:] != tuple(sample):
        raise InputError(
            f"samples of shape {samples.shape} do not fit the input {spec.name!r}",
            why=f"it takes {spec.shape}, batch first, and at least one sample",
        )
    cast = samples.astype(spec.dtype, copy=False)
    per_chunk = max(1, _CHUNK_BYTES // max(cast[:1].nbytes * batch, 1)) * batch
    for start in range(0, len(cast), per_chunk):
        chunk = cast[start : start + per_chunk]
        missing = -len(chunk) % batch
        filled = np.concatenate([chunk, np.repeat(chunk[-1:], missing, axis=0)])
        yield len(chunk), filled.reshape(-1, *spec.shape)
