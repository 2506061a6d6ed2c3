"""Preflight: checks that a board meets a release's requirements, before anything is sent.

One script collects facts about the board, then each check uses them. All failures are reported together.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from edgepack.base.text import human_size
from edgepack.bundle.manifest import Manifest, TargetInfo
from edgepack.errors import PreflightError
from edgepack.remote.layout import script
from edgepack.remote.session import Session
from edgepack.remote.workdir import work_path

TOOLS = ("sha256sum", "flock", "readlink", "ln", "mv", "cp", "sync", "df", "find", "head", "tail", "rmdir")
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
_GLIBC_VERSION = re.compile(r"(?:glibc|GLIBC|GNU libc)\D*([0-9]{1,3}\.[0-9]{1,4})")
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

# Small images have neither getconf nor ldd: glibc itself is a program that prints its version.
# `test -w` also fails on a read-only file system. The loader's cache comes first, then the default
# folders; CUDA's own folder is searched only to report that it is not on the loader's path.
_PROBE = """\
work=$1
arch=$2
shift 2
folder=$work
while [ ! -d "$folder" ]; do
  up=$(dirname "$folder")
  if [ "$up" = "$folder" ]; then break; fi
  folder=$up
done
echo "arch $(uname -m)"
echo "bits $(getconf LONG_BIT 2>/dev/null)"
echo "libc $(getconf GNU_LIBC_VERSION 2>/dev/null)"
echo "libc $(ldd --version 2>/dev/null | head -n 1)"
case $arch in aarch64) loader=/lib/ld-linux-aarch64.so.1;; *) loader=/lib64/ld-linux-x86-64.so.2;; esac
if [ -e "$loader" ]; then
  echo loader
  for place in "/lib/$arch-linux-gnu" /lib64 /lib "/usr/lib/$arch-linux-gnu" /usr/lib64 /usr/lib; do
    library=$place/libc.so.6
    if [ -f "$library" ]; then
      echo "libc $({ "$library" || "$loader" "$library"; } 2>/dev/null </dev/null | head -n 1)"
      break
    fi
  done
fi
echo "folder $folder"
if [ -w "$folder" ]; then echo "writable yes"; fi
line=$(df -Pk "$folder" 2>/dev/null | tail -n 1)
echo "df $line"
point=${line##*% }
while read -r _ mounted _ options _; do
  if [ "$mounted" = "$point" ]; then echo "options $options"; fi
done 2>/dev/null </proc/mounts
for tool in TOOLS; do command -v "$tool" >/dev/null || echo "lacks $tool"; done
find / -prune -type d -perm 755 >/dev/null 2>&1 || echo "lacks find with -perm"
echo | head -c 1 >/dev/null 2>&1 || echo "lacks head with -c"
while IFS=: read -r key value; do
  case $key in Features*|flags*) echo "features $value"; break;; esac
done 2>/dev/null </proc/cpuinfo
for node in /dev/nvgpu /dev/nvhost-gpu /dev/nvidia0; do if [ -e "$node" ]; then echo "gpu $node"; fi; done
read -r l4t 2>/dev/null </etc/nv_tegra_release && echo "l4t $l4t"
for tree in /sys/firmware/devicetree/base /proc/device-tree; do
  if [ -r "$tree/compatible" ]; then
    echo "soc $(tr '\\0' '\\n' <"$tree/compatible" | sed -n 's/^nvidia,\\(tegra[0-9]*\\)$/\\1/p')"
    break
  fi
done
cache=$({ ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null)
for library in "$@"; do
  case $cache in *"	$library ("*) echo "library $library"; continue;; esac
  for place in "/lib/$arch-linux-gnu" "/usr/lib/$arch-linux-gnu" /lib64 /usr/lib64 /lib /usr/lib /usr/local/lib; do
    if [ -e "$place/$library" ]; then echo "library $library"; break; fi
  done
  for place in /usr/local/cuda*/lib64 /usr/local/cuda*/targets/*/lib; do
    if [ -e "$place/$library" ]; then echo "aside $library $place"; break; fi
  done
done
exit 0
""".replace("TOOLS", " ".join(TOOLS))


@dataclass(frozen=True)
class BoardFacts:
    """Facts about a board. ``None`` or empty if unknown."""

    arch: str
    bits: int | None
    libc: str | None  # "2.36", "" for a glibc of unknown version; None if the C library is not glibc
    folder: str  # the work directory, or its nearest parent that exists
    writable: bool
    noexec: bool
    free_bytes: int | None
    cpu_features: frozenset[str]
    lacking_tools: tuple[str, ...]
    libraries: frozenset[str]
    aside: dict[str, str]  # libraries that are not on the loader's path, with their folder
    gpu: bool
    l4t: str | None  # NVIDIA's release line on a Jetson
    soc: str | None = None  # on a Jetson, e.g. tegra234


def preflight(
    session: Session,
    manifest: Manifest,
    size: int,
    *,
    work_dir: str = "edgepack",
    libraries: Collection[str] = (),
) -> BoardFacts:
    """Check that a board can store and run a release; one round trip, nothing is written.

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
    facts, problems = examine(session, target, size, work_dir=work_dir, libraries=libraries)
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise PreflightError(
            f"the board cannot run {manifest.name} {manifest.version} for {target.name}: {count}",
            where=session.name,
            why="".join(f"\n    - {problem}" for problem in problems),
            state="nothing was sent to the board",
            next="correct the above, or build for this board's target: edgepack targets",
        )
    return facts


def examine(
    session: Session, target: TargetInfo, size: int, *, work_dir: str, libraries: Collection[str]
) -> tuple[BoardFacts, list[str]]:
    """The facts about a board, and all reasons why it cannot run releases of a target; arguments as in ``preflight``.

    A reason starts with what is wrong and a colon, such as ``CPU:`` or ``libc:``.

    Raises:
        UnreachableError: The connection was lost.
    """
    wanted = sorted(name for name in libraries if not _GLIBC.fullmatch(name))
    facts = _parse(script(session, _PROBE, work_path(work_dir), target.abi.arch, *wanted))
    return facts, list(_problems(facts, target, size, wanted))


def _problems(facts: BoardFacts, target: TargetInfo, size: int, libraries: list[str]) -> Iterator[str]:
    if facts.arch != target.abi.arch:
        # Further checks (features, library folders) would only report consequences of the wrong CPU.
        yield f"CPU: the board is {facts.arch}, the release is for {target.abi.arch}"
    else:
        for check in (_userland, _features):
            yield from check(facts, target)
        yield from _libraries(facts, target, libraries)
    yield from _storage(facts, size)
    for tool in facts.lacking_tools:
        yield f"tools: {tool} is missing (Debian: apt install coreutils findutils util-linux)"


def _userland(facts: BoardFacts, target: TargetInfo) -> Iterator[str]:
    if facts.bits not in {None, 64}:
        yield f"userland: {facts.bits}-bit programs on a 64-bit kernel; install the 64-bit system image"
    if facts.libc is None:
        yield f"libc: the C library is not glibc; the release needs glibc {target.abi.libc} or later"
    elif facts.libc and _version(facts.libc) < _version(target.abi.libc):
        yield f"libc: glibc {facts.libc}, the release needs {target.abi.libc} or later; upgrade the system image"


def _features(facts: BoardFacts, target: TargetInfo) -> Iterator[str]:
    if not facts.cpu_features:
        return  # no /proc, or the kernel does not list features
    names = _CPUINFO_NAMES[target.abi.arch]
    # cpuinfo has avx512_vnni, compilers avx512vnni
    present = {feature.replace("_", "") for feature in facts.cpu_features}
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


def _parse(answer: str) -> BoardFacts:
    said: dict[str, list[str]] = {}
    for line in answer.splitlines():
        word, _, rest = line.partition(" ")
        said.setdefault(word, []).append(rest.strip())

    def one(word: str) -> str:
        return said.get(word, [""])[0]

    versions = [_GLIBC_VERSION.search(line) for line in said.get("libc", ())]
    libc = next((found[1] for found in versions if found), "" if "loader" in said else None)
    disk = re.search(r"\s\d+\s+\d+\s+(\d{1,18})\s+\d+%", one("df"))
    return BoardFacts(
        arch=one("arch"),
        bits=int(one("bits")) if re.fullmatch(r"[0-9]{1,3}", one("bits")) else None,
        libc=libc,
        folder=one("folder"),
        writable="writable" in said,
        # The last mount on a mount point is the visible one.
        noexec="noexec" in said.get("options", [""])[-1].split(","),
        free_bytes=int(disk[1]) * 1024 if disk else None,
        cpu_features=frozenset(one("features").split()),
        lacking_tools=tuple(said.get("lacks", ())),
        libraries=frozenset(said.get("library", ())),
        aside=dict(_pair(text) for text in said.get("aside", ())),
        gpu="gpu" in said,
        l4t=one("l4t") or None,
        soc=one("soc") or None,
    )


def _pair(text: str) -> tuple[str, str]:
    name, _, folder = text.partition(" ")
    return name, folder


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
