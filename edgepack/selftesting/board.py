"""Checks of the board itself: what preflight finds, and what its agent says."""

from typing import TYPE_CHECKING

from edgepack.agent.protocol import BoardFacts
from edgepack.base.text import human_size
from edgepack.bundle.manifest import TargetInfo
from edgepack.config.target import Target
from edgepack.remote.preflight import examine
from edgepack.selftesting.result import Check, Status
from edgepack.spec.runtime import BASE, CUDA

if TYPE_CHECKING:
    from edgepack.agent.protocol import BoardInfo
    from edgepack.remote.session import Session

# Name, what it checks, and what preflight's reasons start with.
_CHECKS = (
    ("cpu", "architecture and instructions that kernels use", ("CPU",)),
    ("userland", "the C library that releases need, if they are not static", ("userland", "libc")),
    ("libraries", "libraries that a release needs from the board", ("library",)),
    ("storage", "work directory: writable, executable, with free space", ("work directory", "disk")),
)
_GPU_CHECK = ("gpu", "driver, CUDA runtime, device node, compute capability", ("GPU", "CUDA"))
_SIZE = 64 << 20  # bytes: more than a release of the self-test needs


def check_board(session: "Session", target: Target, work_dir: str) -> list[Check]:
    """What preflight checks before a deploy, one check for each kind of reason; nothing is written but the agent.

    Raises:
        UnreachableError: The connection was lost.
    """
    info = TargetInfo.of(target)
    facts, problems = examine(
        session,
        info,
        _SIZE,
        work_dir=work_dir,
        libraries=_libraries(target),
        linking="dynamic" if target.gpu else "static",
    )
    found = _found(facts, target)
    wanted = (*_CHECKS, _GPU_CHECK) if target.gpu else _CHECKS
    other_cpu = facts.arch != target.abi.arch  # then preflight does not look at what follows from it
    checks = []
    for name, what, words in wanted:
        why = [problem for problem in problems if problem.startswith(tuple(f"{word}:" for word in words))]
        if other_cpu and name in {"userland", "libraries", "gpu"}:
            checks.append(
                Check(group="board", name=name, checks=what, status="skipped", detail="it has another CPU")
            )
        else:
            status: Status = "failed" if why else "passed"
            detail = "; ".join(why) or found[name]
            checks.append(Check(group="board", name=name, checks=what, status=status, detail=detail))
    return checks


def agent_check(target: Target) -> tuple[str, str]:
    """Name of the check of the agent, and what it checks: a release for a CPU has no TVM runtime."""
    return "agent", "the agent runs" if target.gpu is None else "the agent runs and loads TVM's runtime"


def check_agent(info: "BoardInfo", target: Target) -> list[Check]:
    """Whether the agent runs, and for a GPU whether TVM's runtime and the CUDA libraries can be loaded on the board."""
    runtime = info.runtime if target.gpu else None
    error = runtime.error if runtime else None
    detail = f"agent {info.agent}, {f'TVM {runtime.tvm}, ' if runtime else ''}kernel {info.kernel}"
    name, what = agent_check(target)
    checks = [
        Check(
            group="board",
            name=name,
            checks=what,
            status="failed" if error else "passed",
            detail=error or detail,
        )
    ]
    if target.gpu:
        lacking = [
            text
            for text, there in (
                ("libcuda.so.1 cannot be loaded", info.cuda.driver),
                ("the CUDA runtime cannot be loaded", info.cuda.loadable),
            )
            if not there
        ]
        names = dict.fromkeys(path.rpartition("/")[2] for path in info.cuda.runtimes)
        found = ", ".join(("libcuda.so.1", *names))
        checks.append(
            Check(
                group="board",
                name="cuda",
                checks="the driver and the CUDA runtime can be loaded",
                status="failed" if lacking else "passed",
                detail="; ".join(lacking) or found,
            )
        )
    return checks


def _libraries(target: Target) -> set[str]:
    """What the agent and TVM's runtime need from a board with a GPU; releases for a CPU are static."""
    if target.gpu is None:
        return set()
    from edgepack.agent.build import build_agent
    from edgepack.bundle.runtime import runtime_libs
    from edgepack.remote.elf import needed_libraries

    own = runtime_libs(target.abi.arch, (*BASE, CUDA))
    files = (build_agent(target.abi.arch, target.abi.libc), *own.values())
    return {name for path in files for name in needed_libraries(path)} - set(own)


def _found(facts: BoardFacts, target: Target) -> dict[str, str]:
    """What is there, by the name of the check."""
    features = f", {', '.join(target.cpu.features)}" if target.cpu.features and facts.features else ""
    free = "" if facts.free_bytes is None else f", {human_size(facts.free_bytes)} free"
    gpu = f"compute capability of {target.gpu.arch}" if target.gpu and facts.soc else ""
    l4t = ", ".join((facts.l4t or "").removeprefix("# ").split(", ")[:2])  # release and revision
    return {
        "cpu": f"{facts.arch}{features}",
        "userland": facts.libc or "no C library",
        "libraries": ", ".join(sorted(facts.libraries)) or "none needed",
        "storage": f"{facts.folder}{free}",
        "gpu": ", ".join(filter(None, (facts.soc, gpu, l4t))) or "driver and CUDA runtime are there",
    }
