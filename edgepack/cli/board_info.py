"""What ``devices info`` prints for people; ``--json`` has every field."""

from collections.abc import Iterator, Mapping
from typing import Any

from edgepack.base.text import human_size

UNKNOWN = "not known"


def describe(probe: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The lines of a device's report, as a label and a text."""
    state = probe["state"]
    emulated = f", emulated by {probe['emulation']}" if probe["emulation"] else ""
    yield "device", f"{probe['device']}, target {probe['target']}"
    yield "board", f"{probe['board'] or UNKNOWN}{emulated}"
    yield "system", f"Linux {probe['kernel']}, {probe['arch']}, {probe['libc'] or 'no C library'}"
    yield "CPU", f"{probe['cpu'] or UNKNOWN}, {probe['cores']} cores"
    yield "features", ", ".join(probe["features"]) or UNKNOWN
    yield "clock", _clock(state)
    free = human_size(state["memory_available_kib"] * 1024)
    yield "memory", f"{human_size(probe['memory_total_kib'] * 1024)}, {free} available"
    yield "load", UNKNOWN if state["load_1min"] is None else f"{state['load_1min']:g} over the last minute"
    yield "temperature", _each(state["temperature"], "{zone} {celsius:g} °C")
    yield "throttled", _throttling(state["throttling"])
    yield from _jetson(probe["cuda"], state)
    disk = probe["disk"]
    space = UNKNOWN if disk["free_bytes"] is None else f"{human_size(disk['free_bytes'])} free"
    yield "releases in", f"{disk['path']}, {space}"
    for name, releases in probe["releases"].items():
        for release in releases:
            yield name, _release(release)
        if not releases:
            yield name, "no complete release"
    runtime = "".join(f", {part} {version}" for part, version in (probe["runtime"] or {}).items() if version)
    yield "agent", f"{probe['agent']}, protocol {probe['protocol']}{runtime}"


def _clock(state: Mapping[str, Any]) -> str:
    now, most = state["frequency_khz"], state["frequency_max_khz"]
    governors = ", ".join(dict.fromkeys(state["governor"])) or UNKNOWN
    if not now:
        return f"governor {governors}"
    limit = f" of {max(most) / 1000:g}" if most else ""
    return f"{_range(now)}{limit} MHz, governor {governors}"


def _range(khz: list[int]) -> str:
    low, high = min(khz) / 1000, max(khz) / 1000
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _each(parts: list[dict[str, Any]], form: str) -> str:
    return ", ".join(form.format(**part) for part in parts) or UNKNOWN


def _throttling(now: Mapping[str, Any]) -> str:
    flags, cooling = now["raspberry_pi_flags"], now["cooling"]
    found = [
        *([f"vcgencmd get_throttled is {flags:#x}"] if flags else []),
        *(["too low a supply voltage"] if now["undervoltage"] else []),
        *([f"cooling: {', '.join(cooling)}"] if cooling else []),
        *([f"{now['events']} thermal events since boot"] if now["events"] else []),
    ]
    silent = flags is None and now["undervoltage"] is None and cooling is None
    return "; ".join(found) or (UNKNOWN if silent else "no")


def _jetson(cuda: Mapping[str, Any], state: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if state["gpu"]:
        form = "{name} {mhz:g} of {most:g} MHz, {governor}"
        clocks = [
            {**gpu, "mhz": gpu["frequency_khz"] / 1000, "most": gpu["frequency_max_khz"] / 1000}
            for gpu in state["gpu"]
        ]
        yield "GPU clock", _each(clocks, form)
    if state["power_mode"]:
        yield "power mode", state["power_mode"]
    if state["power"]:
        yield "power", _each(state["power"], "{rail} {milliwatts} mW")
    if cuda["l4t"]:
        yield "Jetson Linux", cuda["l4t"]
    if cuda["driver"] or cuda["runtimes"]:
        driver = "driver" if cuda["driver"] else "no driver"
        usable = "can be loaded" if cuda["loadable"] else "cannot be loaded by TVM's runtime"
        yield "CUDA", f"{driver}; {', '.join(cuda['runtimes']) or 'no runtime'}, which {usable}"


def _release(release: Mapping[str, Any]) -> str:
    marks = [word for word in ("current", "previous") if release[word]]
    parts = [release["digest"][:12], release["version"], release["installed"], *marks]
    return "  ".join(part for part in parts if part)
