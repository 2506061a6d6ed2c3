"""Targets: kinds of boards that models are built for. Data only; shipped in ``targets/*.yaml``."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from edgepack.base.paths import config_dir, shipped_dir
from edgepack.base.text import near_miss
from edgepack.config import host
from edgepack.config.problems import DataProblem, Location
from edgepack.config.yaml_document import YamlDocument
from edgepack.config.yaml_model import Checked, read_and_check, validate
from edgepack.errors import ConfigError, Problem, UsageError
from edgepack.spec import MAY_BE_EMPTY, Filled, Glibc, GpuArch, Name, Spec, TwoNumbers

SCHEMA_VERSION = 1
HOST = "host"  # the only target without a file: the build host

_ARITHMETIC = {"float16": {"fullfp16", "avx512fp16"}, "bfloat16": {"bf16", "avx512bf16"}}  # CPU features

Family = Literal["arm_cpu", "raspberry_pi", "jetson", "x86"]


class Abi(Spec):
    """Requirements of the binaries in a bundle on the board's userland."""

    arch: Literal["aarch64", "x86_64"] = Field(description="Architecture as reported by uname -m.")
    libc: Glibc = Field(
        description='Oldest supported glibc, e.g. "2.31": binaries run with this version and later.'
    )


class Cpu(Spec):
    """The CPU, as used by schedules. Cache sizes in KiB, per core if the cache is private."""

    name: Filled = Field(description="Name of the core.")
    cores: int = Field(ge=1, description="Number of cores that a release may use.")
    vector_bits: int = Field(ge=64, description="Width of a vector register that the schedules use.")
    features: Annotated[tuple[Filled, ...], MAY_BE_EMPTY] = Field(
        default=(),
        description="ISA features that schedules may use, as named by LLVM, e.g. dotprod, avx512vnni.",
    )
    l1d_kib: int = Field(ge=1, description="L1 data cache per core, KiB.")
    l2_kib: int = Field(ge=1, description="L2 cache, KiB: per core if private, else shared.")
    l3_kib: int | None = Field(default=None, ge=1, description="L3 cache, KiB.")


class Gpu(Spec):
    """The GPU of a Jetson, and the CUDA version that the board needs."""

    name: Filled = Field(description="Name of the GPU.")
    arch: GpuArch = Field(description="Compute capability as named by nvcc, e.g. sm_87.")
    cuda: TwoNumbers = Field(description="Oldest CUDA runtime that the bundle works with.")
    jetpack: TwoNumbers = Field(description="JetPack release with this CUDA version.")


class Tuning(Spec):
    """How candidates are measured on this board."""

    timeout_s: float = Field(default=10.0, gt=0, description="Timeout for a candidate, seconds.")
    cooldown_ms: int = Field(default=0, ge=0, description="Pause after each candidate, ms.")
    cores: tuple[int, ...] = Field(
        default=(0,), min_length=1, description="Cores that candidates are pinned to."
    )
    repeats: int = Field(default=3, ge=1, description="Samples per candidate.")
    min_repeat_ms: int = Field(default=20, ge=1, description="Minimum duration of each sample, ms.")


class Note(Spec):
    """A fact about the board, with its source."""

    text: Filled = Field(description="The fact.")
    source: Filled = Field(description="Manual, datasheet or measurement.")


class Target(Spec):
    """One kind of board: TVM target, ABI, schedule family, limits."""

    edgepack: Literal[1] = Field(description="Version of the target schema.")
    name: Name = Field(description="Name of the target in recipes.")
    extends: Filled | None = Field(
        default=None, description="Target that this one extends; keys here override its keys."
    )
    title: Filled = Field(description="Name for display.")
    family: Family = Field(description="Schedule family, one of edgepack/schedules/families.py.")
    abi: Abi = Field(description="The board's userland.")
    tvm: dict[str, Any] = Field(description="TVM's target dict, passed to TVM unchanged.")
    cpu: Cpu = Field(description="The board's CPU.")
    gpu: Gpu | None = Field(
        default=None, description="GPU that kernels run on; without it they run on the CPU."
    )
    memory_mib: int = Field(ge=64, description="Memory that a release may use, MiB.")
    tune: Tuning = Field(default=Tuning(), description="How candidates are measured.")
    notes: Annotated[tuple[Note, ...], MAY_BE_EMPTY] = Field(
        default=(), description="Facts about the board, with their sources."
    )

    @property
    def kernels(self) -> "Target":
        """This target with only the fields that affect kernels and their library, for cache keys.

        Its title, notes, memory and how candidates are measured are reset.
        """
        return self.model_copy(
            update={"title": self.name, "extends": None, "memory_mib": 64, "tune": Tuning(), "notes": ()}
        )

    @property
    def measured(self) -> "Target":
        """This target with only the fields that affect kernels and their measurement, for the cache key of tuning."""
        return self.kernels.model_copy(update={"tune": self.tune})

    @property
    def device_kind(self) -> Literal["cpu", "cuda"]:
        """The kind of device that kernels run on: CPU or GPU."""
        return "cuda" if self.gpu else "cpu"

    @property
    def lanes(self) -> int:
        """Float32 elements in a vector register of the CPU; on a GPU those that a thread loads at once (128 bits)."""
        return 4 if self.gpu else self.cpu.vector_bits // 32

    def computes_in(self, dtype: Literal["float16", "bfloat16"]) -> bool:
        """Whether the processor that kernels run on has arithmetic of this type."""
        return self.gpu is not None or bool(_ARITHMETIC[dtype].intersection(self.cpu.features))

    @property
    def host_tvm(self) -> dict[str, Any]:
        """The CPU part of TVM's target dict."""
        part: dict[str, Any] = self.tvm["host"] if self.gpu else self.tvm
        return part


def target_problems(target: Target) -> Iterator[DataProblem]:
    """Contradictions in a target whose keys are all valid."""
    kind = target.tvm.get("kind")
    expected = "cuda" if target.gpu else "llvm"
    if kind != expected:
        why = "a target with a gpu" if target.gpu else "a target without a gpu"
        yield DataProblem(
            ("tvm", "kind"), f"expected {expected} for {why}, got {kind!r}", depends=(("gpu",),)
        )
        return
    if (target.family == "jetson") != (target.gpu is not None):
        yield DataProblem(
            ("family",), "the jetson family is only for targets with a gpu, and required for them"
        )
    if target.gpu and target.tvm.get("arch") != target.gpu.arch:
        yield DataProblem(
            ("tvm", "arch"), f"expected {target.gpu.arch} as in gpu.arch, got {target.tvm.get('arch')!r}"
        )
    where: Location = ("tvm", "host") if target.gpu else ("tvm",)
    cpu = target.tvm.get("host") if target.gpu else target.tvm
    if not isinstance(cpu, dict):
        yield DataProblem(("tvm",), "missing key `host` in `tvm`: the CPU beside the GPU", on_key=True)
        return
    triple = cpu.get("mtriple")
    if not isinstance(triple, str) or not triple.startswith(f"{target.abi.arch}-linux-gnu"):
        yield DataProblem(
            (*where, "mtriple"), f"expected {target.abi.arch}-linux-gnu as in abi.arch, got {triple!r}"
        )
    if not isinstance(cpu.get("mcpu"), str):
        yield DataProblem((*where, "mcpu"), "expected LLVM's name of the CPU, e.g. cortex-a72")
    if cpu.get("num-cores") != target.cpu.cores:
        got = cpu.get("num-cores")
        yield DataProblem((*where, "num-cores"), f"expected {target.cpu.cores} as in cpu.cores, got {got!r}")
    yield from _core_problems(target.tune.cores, target.cpu.cores - 1)


def _core_problems(cores: tuple[int, ...], last: int) -> Iterator[DataProblem]:
    for index, core in enumerate(cores):
        if core in cores[:index]:
            yield DataProblem(("tune", "cores", index), f"duplicate core {core}")
        if not 0 <= core <= last:
            yield DataProblem(("tune", "cores", index), f"core {core} does not exist; cores are 0 to {last}")


class Targets:
    """The targets of this machine: those shipped, the user's own in ``targets/`` of the config folder, and ``host``.

    Each file is read once, however often it is looked up or extended. A user's file with the name of a shipped target is
    listed here and rejected when it is read: the meaning of ``rpi4`` must not depend on the machine.
    """

    def __init__(self) -> None:
        folders = (shipped_dir("targets"), config_dir() / "targets")
        self._files = {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}
        self._read: dict[Path, Checked[Target]] = {}

    @property
    def names(self) -> list[str]:
        """The names that a recipe may use."""
        return sorted({*self._files, HOST})

    def unknown(self, name: str) -> str:
        """The message for an unknown target name, with a suggestion."""
        return f"unknown target `{name}`{near_miss(name, self.names)}"

    def examine(self, name: str) -> Checked[Target]:
        """Read the target of this name and collect every problem; the name is one of ``names``."""
        path = self._files.get(name)
        return self._host if path is None else self.examine_file(path)

    def examine_file(self, path: Path, outer: tuple[Path, ...] = ()) -> Checked[Target]:
        """Read a target's file and collect every problem; ``outer`` are the files that extend it, outermost first."""
        if path not in self._read:
            self._read[path] = self._file(path, outer)
        return self._read[path]

    @cached_property
    def _host(self) -> Checked[Target]:
        return validate(YamlDocument(HOST, host.describe()), Target)

    def _file(self, path: Path, outer: tuple[Path, ...]) -> Checked[Target]:
        document, problems = read_and_check(path, Target)
        if not isinstance(document.data, dict):
            return (
                validate(document, Target, problems=problems)
                if document.values
                else Checked(document, None, problems)
            )
        document, more = self._extended(document, (*outer, path))
        checked = validate(document, Target, problems=[*problems, *more])
        if checked.model is not None and not more:
            checked.add(target_problems(checked.model))
            checked.add(_name_problems(checked.model, path))
        return checked

    def _extended(
        self, document: YamlDocument, chain: tuple[Path, ...]
    ) -> tuple[YamlDocument, list[Problem]]:
        """The document merged into the target that it extends: mappings are merged, other values replaced."""
        if "extends" not in document.data:
            return document, []
        base = document.data["extends"]
        below: Checked[Target] | None = None
        problem = None
        if not isinstance(base, str) or base not in self._files:
            problem = f"unknown target `{base}`{near_miss(str(base), self._files)}"
        elif self._files[base].resolve() in {path.resolve() for path in chain}:
            problem = f"`{base}` extends this target, too: circular `extends`"
        else:
            below = self.examine_file(self._files[base], chain)
            if below.problems:
                problem = f"`{base}` has problems of its own: edgepack targets show {base}"
        if problem is not None or below is None or below.model is None:
            # Merged into some target, so that the keys it should have inherited are not reported as missing.
            below = self.examine_file(shipped_dir("targets") / "arm64.yaml")
        problems = [document.problem(DataProblem(("extends",), problem))] if problem else []
        inherited = below.result().model_dump(mode="json", exclude_none=True, exclude={"name"})
        return replace(document, data=_merge(inherited, document.data)), problems


def target_names() -> list[str]:
    """The names that a recipe may use."""
    return Targets().names


def load_target(name_or_path: str | Path) -> Target:
    """A target by its name, or by the path of a file (with a ``/`` or a ``.yaml``).

    ``host`` is the build host, detected when it is loaded, so a build records its features.

    Raises:
        UsageError: there is no such target.
        ConfigError: with every problem in its file.
    """
    name, targets = str(name_or_path), Targets()
    if "/" in name or name.endswith(".yaml"):
        return targets.examine_file(Path(name)).result()
    if name not in targets.names:
        raise UsageError(targets.unknown(name), next="edgepack targets")
    return targets.examine(name).result()


def list_targets() -> list[Target]:
    """All targets, ``host`` included.

    Raises:
        ConfigError: with the problems in all target files.
    """
    targets = Targets()
    checked = [targets.examine(name) for name in targets.names]
    problems = [problem for each in checked for problem in each.problems]
    if problems:
        raise ConfigError(problems)
    return [each.model for each in checked if each.model is not None]


def _merge(base: Any, own: Any) -> Any:
    if isinstance(base, dict) and isinstance(own, dict):
        return {**base, **{key: _merge(base.get(key), value) for key, value in own.items()}}
    return own


def _name_problems(target: Target, path: Path) -> Iterator[DataProblem]:
    if path.parent == config_dir() / "targets":
        if target.name == HOST or (shipped_dir("targets") / f"{target.name}.yaml").exists():
            message = f"`{target.name}` is a shipped target; choose another name and extend it"
            yield DataProblem(("name",), message)
        elif target.name != path.stem:
            yield DataProblem(("name",), f"expected {path.stem}, the file's own name, got {target.name}")
