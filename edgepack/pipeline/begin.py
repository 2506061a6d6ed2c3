"""The start of a run: its ID, recipe, host and tool versions."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from edgepack.base.versions import ABSENT, tool_version
from edgepack.config.plan import Plan
from edgepack.pipeline.trace import Host, Placement, RecipeRef, RunStarted, Until
from edgepack.remote.boards import Boards

_TOOLS = ("edgepack", "apache-tvm", "apache-tvm-ffi", "numpy", "onnx", "onnxruntime", "torch", "ziglang")


def begin(plan: Plan, boards: Boards, until: Until) -> RunStarted:
    """The first event of a run of ``plan``.

    Raises:
        UsageError: a device of the plan is not known.
    """
    recipe, now = plan.recipe, datetime.now(UTC)
    placements = []
    for target in plan.targets:
        for device in target.devices or (None,):
            emulated = device is not None and boards.identify(device).emulated
            placements.append(Placement(target=target.target.name, device=device, emulated=emulated))
    return RunStarted(
        run_id=new_run_id(recipe.name, now),
        started=now.isoformat(timespec="seconds"),
        until=until,
        recipe=RecipeRef(name=recipe.name, version=recipe.version, digest=plan.digest, path=plan.path.name),
        gates=recipe.gates,
        tools=tool_versions(),
        host=this_host(),
        placements=tuple(placements),
    )


def new_run_id(recipe: str, now: datetime) -> str:
    """A unique, sortable ID for a run that starts now."""
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}-{recipe}-{os.getpid()}"


def tool_versions() -> dict[str, str]:
    """Versions of edgepack and the packages that affect its results; those not installed are omitted."""
    versions = {name: tool_version(name) for name in _TOOLS}
    return {name: release for name, release in versions.items() if release != ABSENT}


def this_host() -> Host:
    """The machine this process runs on."""
    return Host(
        system=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        cores=os.cpu_count() or 1,
        python=platform.python_version(),
        cpu=_cpu_name(Path("/proc/cpuinfo")),
    )


def _cpu_name(cpuinfo: Path) -> str | None:
    """The CPU's name, if Linux reports it; ARM kernels usually do not."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
