"""Client of the agent's ``profile`` and ``roofline``."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgepack.agent.protocol import BoardModel, check_protocol, command_lines, parse_line, upload_inputs
from edgepack.agent.results import BoardLimits, CallTimes, ProfileEnd, ProfileRaw, ProfileStart

if TYPE_CHECKING:
    import numpy as np


def profile(
    on: BoardModel, inputs: Mapping[str, "np.ndarray"], *, warmup: int = 10, runs: int = 100
) -> ProfileRaw:
    """Measure each kernel of a model with its own runtime on the board, in ``runs`` inferences in turn with plain ones.

    Raises:
        AgentError: As ``bench``; or TVM's virtual machine executes the model.
    """
    session = on.session
    with upload_inputs(on, inputs) as (folder, words):
        del folder
        argv = on.command("profile", *words, "--warmup", str(warmup), "--runs", str(runs), *on.pinning)
        first, *lines, last = command_lines(session, "profile", argv, on.timeout, count=None)
    check_protocol(session, first)
    start = parse_line(session, "profile", ProfileStart, first)
    end = parse_line(session, "profile", ProfileEnd, last)
    return ProfileRaw(
        kernels=start.kernels,
        calls=tuple(parse_line(session, "profile", CallTimes, line) for line in lines),
        plain_ns=end.plain_ns,
        profiled_ns=end.profiled_ns,
        warmup=start.warmup,
        threads=start.threads,
        before=start.before,
        after=end.after,
    )


def roofline(on: BoardModel) -> BoardLimits:
    """Measure what the board's cores and memory can do with the model's number of threads.

    Raises:
        AgentError: The agent failed.
    """
    argv = [on.agent, "roofline", "--threads", str(on.threads), *on.pinning]
    (line,) = command_lines(on.session, "roofline", argv, on.timeout, count=1)
    check_protocol(on.session, line)
    return parse_line(on.session, "roofline", BoardLimits, line)
