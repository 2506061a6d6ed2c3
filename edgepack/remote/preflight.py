"""Preflight: checks that a board meets a release's requirements, before the release is sent.

The agent reports facts about the board, then each check uses them. All failures are reported together.
"""

import re
from collections.abc import Collection, Iterator

from edgepack.agent.protocol import BoardFacts, Linking, board_facts
from edgepack.base.text import human_size
from edgepack.bundle.manifest import Manifest, TargetInfo
from edgepack.errors import PreflightError
from edgepack.remote.session import Session
from edgepack.remote.workdir import work_path

# Space for outputs of the smoke test, the history, and directories of the file system.
MARGIN = 8 << 20  # bytes

# Compiler names of ISA features that have different names in /proc/cpuinfo.
_CPUINFO_NAMES = {
    "aarch64": {
        "crc": "crc32",
        "dotprod": "asimddp",
        "fullfp16": "asimdhp",
        "lse": "atomics",
        "neon": "asimd",
    },
    "x86_64": {"lzcnt": "abm", "sse4.1": "sse4_1", "sse4.2": "sse4_2"},
}
# glibc's own libraries are covered by the libc version.
_GLIBC = re.compile(r"(lib(c|m|dl|rt|pthread|util|mvec|resolv)|ld-linux[-\w]*)\.so\.\d+")
_LIBRARY_PACKAGES = {"libstdc++.so.6": "libstdc++6", "libgomp.so.1": "libgomp1", "libgcc_s.so.1": "libgcc-s1"}
_JETPACK_OF_L4T = {"32": "4 (CUDA 10.2)", "34": "5 (CUDA 11.4)", "35": "5 (CUDA 11.4)", "36": "6 (CUDA 12.6)"}
# Compute capability of each Tegra's GPU: NVIDIA's table of CUDA GPUs (Jetson), https://developer.nvidia.com/cuda-gpus.
_CAPABILITY_OF_SOC = {
    "tegra210": "5.3",
    "tegra186": "6.2",
    "tegra194": "7.2",
    "tegra234": "8.7",
    "tegra264": "11.0",
}


def preflight(
    session: Session,
    manifest: Manifest,
    size: int,
    *,
    work_dir: str = "edgepack",
    libraries: Collection[str] = (),
) -> BoardFacts:
    """Check that a board can store and run a release; one round trip, nothing is written but edgepack's own agent.

    Args:
        session: The board.
        manifest: The release's.
        size: Bytes to be written.
        work_dir: Folder for releases on the board.
        libraries: Names of shared libraries that the release needs from the board; see ``edgepack.remote.elf``.

    Returns:
        The facts about the board.

    Raises:
        PreflightError: With every check that failed.
        UnreachableError: The connection was lost.
    """
    target = manifest.target
    facts, problems = examine(
        session, target, size, work_dir=work_dir, libraries=libraries, linking=manifest.agent_linking
    )
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise PreflightError(
            f"the board cannot run {manifest.name} {manifest.version} for {target.name}: {count}",
            where=session.name,
            why="".join(f"\n    - {problem}" for problem in problems),
            state="the release was not sent to the board",
            next="correct the above, or build for this board's target: edgepack targets",
        )
    return facts


def examine(
    session: Session,
    target: TargetInfo,
    size: int,
    *,
    work_dir: str,
    libraries: Collection[str],
    linking: Linking,
) -> tuple[BoardFacts, list[str]]:
    """The facts about a board, and all reasons why it cannot run releases of a target; arguments as in ``preflight``.

    Programs with ``linking`` static need no C library of the board.

    A reason starts with what is wrong and a colon, such as ``CPU:`` or ``libc:``.

    Raises:
        UnreachableError: The connection was lost.
    """
    wanted = sorted(name for name in libraries if not _GLIBC.fullmatch(name))
    facts = board_facts(session, session.agent(), work_path(work_dir), wanted)
    return facts, list(_problems(facts, target, size, wanted, linking))


def _problems(
    facts: BoardFacts, target: TargetInfo, size: int, libraries: list[str], linking: Linking
) -> Iterator[str]:
    if facts.arch != target.abi.arch:
        # Further checks (features, library folders) would only report consequences of the wrong CPU.
        yield f"CPU: the board is {facts.arch}, the release is for {target.abi.arch}"
    else:
        if linking == "dynamic":
            yield from _userland(facts, target)
        yield from _features(facts, target)
        yield from _libraries(facts, target, libraries)
    yield from _storage(facts, size)


def _userland(facts: BoardFacts, target: TargetInfo) -> Iterator[str]:
    """What programs need that are linked against glibc."""
    if facts.bits == 32:  # noqa: PLR2004 - bits of an address
        yield "userland: 32-bit programs on a 64-bit kernel; install the 64-bit system image"
    kind, _, version = (facts.libc or "").partition(" ")
    if kind != "glibc":
        yield f"libc: the board has {facts.libc or 'no C library'}, the release needs glibc {target.abi.libc} or later"
    elif version and _version(version) < _version(target.abi.libc):
        yield f"libc: glibc {version}, the release needs {target.abi.libc} or later; upgrade the system image"


def _features(facts: BoardFacts, target: TargetInfo) -> Iterator[str]:
    if not facts.features:
        return  # no /proc, or the kernel does not list features
    names = _CPUINFO_NAMES[target.abi.arch]
    # cpuinfo has avx512_vnni, compilers avx512vnni
    present = {feature.replace("_", "") for feature in facts.features}
    missing = [name for name in target.cpu_features if names.get(name, name).replace("_", "") not in present]
    if missing:
        yield f"CPU: the board lacks {', '.join(missing)}, used by the kernels of {target.name}"


def _libraries(facts: BoardFacts, target: TargetInfo, libraries: list[str]) -> Iterator[str]:
    for name in libraries:
        if name in facts.libraries:
            continue
        if name.startswith("libcuda."):
            yield f"GPU: {name} is missing: the NVIDIA driver, which is part of JetPack (package nvidia-l4t-cuda)"
        elif name.startswith("libcuda"):
            yield _cuda(facts, target, name)
        elif name in _LIBRARY_PACKAGES:
            yield f"library: {name} is missing (Debian: apt install {_LIBRARY_PACKAGES[name]})"
        else:
            yield f"library: {name} is missing"
    if target.device_kind == "cuda" and not facts.gpu:
        yield "GPU: there is no NVIDIA device node in /dev; is this a Jetson with its driver loaded?"
    capability = _CAPABILITY_OF_SOC.get(facts.soc or "")
    if target.gpu is not None and capability is not None and capability != _capability(target.gpu.arch):
        yield (
            f"GPU: {facts.soc} has compute capability {capability}, and the kernels of {target.name} are for "
            f"{_capability(target.gpu.arch)} ({target.gpu.arch})"
        )


def _capability(arch: str) -> str:
    """The compute capability of an architecture as nvcc names it: 8.7 of sm_87."""
    digits = "".join(character for character in arch if character.isdigit())
    return f"{digits[:-1]}.{digits[-1]}"


def _cuda(facts: BoardFacts, target: TargetInfo, name: str) -> str:
    needs = f"CUDA {target.gpu.cuda} (JetPack {target.gpu.jetpack})" if target.gpu else "CUDA"
    if name in facts.aside:
        folder = facts.aside[name]
        return (
            f"CUDA: {name} is in {folder}, which is not on the loader's path: "
            f"echo {folder} | sudo tee /etc/ld.so.conf.d/cuda.conf && sudo ldconfig"
        )
    release = re.search(r"R(\d+)", facts.l4t or "")
    jetpack = _JETPACK_OF_L4T.get(release[1]) if release else None
    has = f"; this board has JetPack {jetpack}: upgrade it" if jetpack else ""
    return f"CUDA: {name} is missing; the release needs {needs}{has}"


def _storage(facts: BoardFacts, size: int) -> Iterator[str]:
    if not facts.writable:
        yield f"work directory: {facts.folder} is not writable for the login user; set work_dir in devices.yaml"
    if facts.noexec:
        yield f"work directory: {facts.folder} is mounted noexec, so the agent cannot run there; set work_dir"
    if facts.free_bytes is not None and facts.free_bytes < size + MARGIN:
        yield (
            f"disk: {human_size(facts.free_bytes)} free in {facts.folder}, {human_size(size + MARGIN)} needed"
        )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
