"""A profile in Chrome's trace event format, which chrome://tracing and https://ui.perfetto.dev show as a timeline."""

import json
from pathlib import Path
from typing import Any

from edgepack.base.files import write_atomic
from edgepack.measuring.profile import ModelProfile

_US_PER_MS = 1e3


def write_timeline(profile: ModelProfile, path: Path) -> None:
    """Write the inference whose duration is the median, kernel by kernel.

    Raises:
        OSError: The file cannot be written.
    """
    write_atomic(path, json.dumps(timeline(profile), indent=1, allow_nan=False).encode() + b"\n")


def timeline(profile: ModelProfile) -> dict[str, Any]:
    """Return the trace: complete events ("X") one after the other, with times in microseconds."""
    works = {kernel.name: kernel for kernel in profile.kernels}
    events: list[dict[str, Any]] = [
        _named(
            "process_name", f"{profile.model} on {profile.device}{' (emulated)' if profile.emulated else ''}"
        ),
        _named("thread_name", f"kernels, {profile.threads} thread{'s' if profile.threads > 1 else ''}"),
    ]
    at = 0.0
    for number, call in enumerate(profile.calls):
        kernel = works[call.kernel]
        events.append(
            {
                "name": call.nodes[0].name if call.nodes else call.kernel,
                "cat": kernel.arithmetic or "memory",
                "ph": "X",
                "ts": at,
                "dur": call.usual_ms * _US_PER_MS,
                "pid": 1,
                "tid": 1,
                "args": {
                    "call": number,
                    "kernel": call.kernel,
                    "nodes": [node.name for node in call.nodes],
                    "modules": list(dict.fromkeys(node.module for node in call.nodes if node.module)),
                    "tuned": kernel.tuned,
                    "macs": kernel.macs // kernel.calls,
                    "bytes": kernel.bytes // kernel.calls,
                    "median_us": call.median_ms * _US_PER_MS,
                },
            }
        )
        at += call.usual_ms * _US_PER_MS
    return {"traceEvents": events, "displayTimeUnit": "ns"}


def _named(kind: str, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": 1, "tid": 1, "args": {"name": name}}
