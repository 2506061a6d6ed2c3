"""The public functions, one for each command of the command line.

All functions raise the errors in :mod:`edgepack.errors` and print nothing. They import heavy packages when called.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgepack.engine.events import Listener, ignore
from edgepack.errors import Problem

if TYPE_CHECKING:
    from edgepack.bundle.manifest import Manifest
    from edgepack.compression import Method
    from edgepack.config.plan import CheckedRecipe, Plan
    from edgepack.config.target import Target
    from edgepack.diagnosis import Diagnosis
    from edgepack.lower import Compiled
    from edgepack.lower.deep import Examined
    from edgepack.measuring.measurement import Measurement
    from edgepack.measuring.profile import ModelProfile
    from edgepack.pipeline.device import NamedDevice
    from edgepack.pipeline.stages.sensitivity import SensitivityFigures
    from edgepack.pipeline.strategy import Strategy
    from edgepack.remote.install import Installed
    from edgepack.remote.virtual import Board
    from edgepack.reporting.document import Report
    from edgepack.selftesting import SelfTest
    from edgepack.spec.runtime import Static
    from edgepack.spec.sensitivity import ProbeKind
    from edgepack.toolchain.cubin import CudaKernel


def init(
    model: Path | str,
    *,
    out: Path | str = "recipe.yaml",
    targets: Sequence[str] = (),
    force: bool = False,
) -> Path:
    """Write a commented recipe for a model: an .onnx file or ``module:callable``. Returns the recipe's path."""
    from edgepack.config.init import init as write

    return write(Path(out), model=str(model), targets=tuple(targets), force=force)


def check(recipe: Path | str) -> list[Problem]:
    """Return all problems in a recipe, each with its line and column; empty if it is valid. Raises as :func:`checked`."""
    return list(checked(recipe).problems)


def checked(recipe: Path | str) -> "CheckedRecipe":
    """Return all problems in a recipe, or what a valid one's steps do, as ``notes``; IntegrityError if a file's sha256 differs."""
    from edgepack.config.plan import examine

    return examine(Path(recipe), running=_running_boards)


def examine(path: Path | str, *, trust: bool = False) -> "Examined":
    """Report everything in a model that cannot be lowered, without building anything.

    Takes an .onnx file or a recipe. A recipe's model is examined before compression; a torch source is exported first.
    ``trust`` is as in :func:`run`. Raises ConfigError if the recipe has problems, and InputError or TrustError if a torch
    source cannot be loaded or exported.
    """
    if Path(path).suffix in {".yaml", ".yml"}:
        from edgepack.pipeline.examining import examine_plan

        return examine_plan(_make_plan(path, trust=trust))
    from edgepack.lower.deep import examine as examine_onnx

    return examine_onnx(Path(path))


def schema(kind: Literal["recipe", "target", "devices"]) -> dict[str, Any]:
    """Return the JSON Schema of a recipe, target or devices file."""
    from edgepack.config.schema import schema as make

    return make(kind)


def targets() -> "list[Target]":
    """Return all targets: those shipped with edgepack and the user's own."""
    from edgepack.config.target import list_targets

    return list_targets()


def target(name: str) -> "Target":
    """Return a target by name or by the path of its file."""
    from edgepack.config.target import load_target

    return load_target(name)


def run(
    recipe: Path | str,
    *,
    out: Path | str | None = None,
    targets: Sequence[str] = (),
    fresh: Sequence[str] = (),
    listener: Listener = ignore,
    strategy: "Strategy | None" = None,
    offline: bool = False,
    trust: bool = False,
) -> "Report":
    """Run the full pipeline. Returns the report, which is also written to the run's folder; it lists all failures.

    Args:
        recipe: the recipe's path.
        out: folder for the bundles; by default they are in the run's folder (see :func:`bundles`).
        targets: the recipe's targets to build; all if empty.
        fresh: stages to re-run even if they are cached; ``all`` re-runs every stage.
        listener: called with the events in :mod:`edgepack.engine.events` and :mod:`edgepack.pipeline.trace`.
        strategy: proposes the candidates; by default the original model and the recipe's release.
        offline: do not ask the boards first whether they can be reached.
        trust: load pickled objects in weights files of the recipe, which runs the code that they name.

    Raises, before a stage is run, ConfigError if the recipe has problems, IntegrityError if a file has another sha256 than the
    recipe says, UnreachableError or TrustError if a board cannot be used, UsageError if ``out`` cannot be written to.
    """
    from edgepack.reporting.running import run_plan

    plan, folder = _make_plan(recipe, targets, trust=trust), None if out is None else Path(out)
    return run_plan(
        plan, "bench", out=folder, fresh=fresh, listener=listener, strategy=strategy, offline=offline
    )[0]


def compress(
    recipe: Path | str, *, fresh: Sequence[str] = (), listener: Listener = ignore, trust: bool = False
) -> "Report":
    """Train or load the model and compress it, without building for a target; arguments as for :func:`run`."""
    from edgepack.reporting.running import run_plan

    return run_plan(_make_plan(recipe, trust=trust), "evaluate", fresh=fresh, listener=listener)[0]


def sensitivity(
    recipe: Path | str,
    *,
    samples: int = 64,
    probes: "Sequence[ProbeKind]" = (),
    out: Path | str | None = None,
    fresh: Sequence[str] = (),
    listener: Listener = ignore,
    trust: bool = False,
) -> "SensitivityFigures":
    """Change one layer of a recipe's original model at a time, and compare the outputs for ``samples`` training samples.

    ``probes`` are of ``weights``, ``activations``, ``prune`` and ``rank``, all if empty; ``out`` is an .html or .md file for
    plots and tables. The result is cached: ``fresh`` may be ``sensitivity``, ``load``, ``train`` or ``all``. Raises ConfigError
    if the recipe has problems, InputError if the model does not run, UsageError for ``samples`` < 1 or an unusable ``out``.
    """
    from edgepack.reporting.sensitivity import scan_recipe

    path = None if out is None else Path(out)
    plan = partial(_make_plan, recipe, trust=trust)
    return scan_recipe(plan, samples, probes, path, fresh=fresh, listener=listener)


def tune(
    recipe: Path | str,
    *,
    targets: Sequence[str] = (),
    trials: int | None = None,
    minutes: float | None = None,
    listener: Listener = ignore,
    trust: bool = False,
) -> "Report":
    """Tune the kernels on each target's board; resumes the previous tuning run.

    ``trials`` and ``minutes`` replace the recipe's budget. Later builds for the same target use the records. Raises UsageError
    if a budget is not greater than 0, there is no budget, or no target has a device.
    """
    from edgepack.reporting.running import tune_plan

    plan = partial(_make_plan, recipe, targets, trust=trust)
    return tune_plan(plan, trials=trials, minutes=minutes, listener=listener)


def build(
    recipe: Path | str,
    *,
    out: Path | str,
    targets: Sequence[str] = (),
    fresh: Sequence[str] = (),
    static: "Static" = False,
    listener: Listener = ignore,
    offline: bool = False,
    trust: bool = False,
) -> "tuple[Report, list[Path]]":
    """Build each target's bundle, and sources of CUDA kernels, into ``out``; return the report and the bundles.

    ``static`` is as in :func:`compile`, ``offline`` and ``trust`` as in :func:`run`. Raises UsageError if ``out`` cannot be written.
    """
    from edgepack.reporting.packing import build_plan

    plan = _make_plan(recipe, targets, trust=trust)
    return build_plan(plan, Path(out), fresh, static=static, offline=offline, listener=listener)


def compile(  # noqa: A001 - the usual term; called as edgepack.compile
    model: Path | str,
    target: str,
    *,
    out: Path | str | None = None,
    dump: Path | str | None = None,
    static: "Static" = False,
    listener: Listener = ignore,
    trust: bool = False,
) -> "Compiled":
    """Compile an .onnx file, or a recipe's release model, for one target, using existing tuning records.

    ``out`` is the shared library to write, by default ``MODEL-TARGET.so`` in the current folder; with ``static``, a new
    folder for a static library, by default ``MODEL-TARGET.static``, with its weights in it if ``embedded``. The module is
    written to the folder ``dump`` after each lowering phase. ``listener`` and ``trust`` are as in :func:`run`.
    """
    from edgepack.reporting.compiling import compile_path

    library, dumped = (None if each is None else Path(each) for each in (out, dump))
    plan = partial(_make_plan, model, trust=trust)
    return compile_path(Path(model), plan, target, library, dumped, static=static, listener=listener)


def cuda_kernels(library: Path | str) -> "tuple[CudaKernel, ...]":
    """Return the CUDA kernels in a compiled library, read from its cubins; empty for CPU targets."""
    from edgepack.toolchain.cubin import kernels

    return kernels(Path(library))


def report(run: Path | str = "latest") -> "Report":
    """Load the report of an earlier run by its id, its folder, its report.json, or ``latest``."""
    from edgepack.reporting.saved import find

    return find(str(run))


def runs() -> list[str]:
    """Return the ids of all runs, the latest first."""
    from edgepack.reporting.saved import run_ids

    return run_ids()


def run_folder(report: "Report") -> Path:
    """Return the folder that holds a run's report.json, report.md and report.html."""
    from edgepack.reporting.saved import folder_of

    return folder_of(report)


def bundles(report: "Report", out: Path | str | None = None) -> list[Path]:
    """Return the bundles of a run's release: those in ``out`` if it was given to :func:`run`, else in the run's folder."""
    from edgepack.reporting.running import bundles as find

    return find(report, None if out is None else Path(out))


def inspect(bundle: Path | str) -> "Manifest":
    """Return a bundle's manifest without verifying its files."""
    from edgepack.bundle.archive import read_manifest

    return read_manifest(Path(bundle))


def verify(bundle: Path | str) -> "Manifest":
    """Verify the checksum of every file in a bundle. Returns the manifest."""
    from edgepack.bundle.archive import verify as verify_archive

    return verify_archive(Path(bundle))


def extract(bundle: Path | str, folder: Path | str) -> "Manifest":
    """Verify a bundle and extract it into a new folder. Returns the manifest."""
    from edgepack.bundle.archive import extract as unpack

    return unpack(Path(bundle), Path(folder))


def deploy(bundle: Path | str, device: str, *, listener: Listener = ignore) -> "Installed":
    """Install a bundle on a device: check it, upload, verify checksums, run a test inference, and switch ``current``.

    Raises DeployError (the board keeps its current release), PreflightError (the release was not sent), UnreachableError,
    TrustError, IntegrityError or LockedError: see :mod:`edgepack.errors`.
    """
    from edgepack.pipeline.device import deploy as install

    return install(Path(bundle), device, listener)


def rollback(name: str, device: str) -> "Installed":
    """Restore the previous release of ``name`` on a device."""
    from edgepack.pipeline.device import rollback as restore

    return restore(name, device)


def bench(
    bundle: Path | str, device: str, *, runs: int = 100, warmup: int = 10, threads: int = 1
) -> "Measurement":
    """Benchmark a bundle on a device without installing it; temporary files are removed."""
    from edgepack.config.recipe import Bench
    from edgepack.pipeline.device import bench as measure

    return measure(Path(bundle), device, Bench(runs=runs, warmup=warmup, threads=threads))


def profile(
    bundle: Path | str,
    device: str,
    *,
    runs: int = 100,
    warmup: int = 10,
    threads: int = 1,
    trace: Path | str | None = None,
) -> "ModelProfile":
    """Measure each kernel of a bundle on a device as ``bench`` does; ``trace`` is a timeline's file. InputError if it cannot."""
    from edgepack.pipeline.profiling import profile as measure

    return measure(Path(bundle), device, trace, runs=runs, warmup=warmup, threads=threads)


def devices() -> "list[NamedDevice]":
    """Return the devices in devices.yaml and the running virtual boards."""
    from edgepack.pipeline.device import devices as list_devices

    return list_devices()


def device_info(device: str) -> dict[str, Any]:
    """Return what the agent reports about a device, and the installed releases."""
    from edgepack.pipeline.device import info

    return info(device)


def selftest(device: str, *, cases: Sequence[str] = (), listener: Listener = ignore) -> "SelfTest":
    """Test a device: its agent, a tiny release, single kernels. Nothing is installed; failed checks are in the result.

    ``cases`` selects cases. Raises UnreachableError, TrustError, DeployError or UsageError if it cannot be tested.
    """
    from edgepack.selftesting import selftest as test

    return test(device, listener, cases)


def trust(device: str) -> str:
    """Add a device's host key to known_hosts. Returns its fingerprint."""
    from edgepack.pipeline.device import trust as accept

    return accept(device)


def board_up(
    kind: str, name: str | None = None, *, order: str | None = None, fault: str | None = None
) -> "Board":
    """Start a virtual board that runs until :func:`boards_down`; see ``edgepack.remote.virtual.up``."""
    from edgepack.remote import virtual

    return virtual.up(kind, name, order=order, fault=fault)


def boards_down(name: str | None = None, *, everything: bool = False, purge: bool = False) -> list[str]:
    """Stop one virtual board or all of them; ``purge`` also deletes their files. Returns their names."""
    from edgepack.pipeline.device import stop_boards

    return stop_boards(name, everything=everything, purge=purge)


def doctor() -> "list[Diagnosis]":
    """Check what this machine can do, and what is missing."""
    from edgepack.diagnosis import examine

    return examine()


def methods() -> "list[Method[Any]]":
    """Return all compression methods, including those from other packages."""
    from edgepack.compression.registry import METHODS

    return list(METHODS.values())


def unusable_methods() -> dict[str, str]:
    """Return the methods from installed packages that failed to load, with the reason for each."""
    from edgepack.compression.registry import REGISTRY

    return dict(REGISTRY.unusable)


def method_options(name: str) -> str:
    """Return the options of a compression method as a Markdown table; UsageError if there is none of this name."""
    from edgepack.config.tables import method_table

    return method_table(name)


def stages() -> list[str]:
    """Return the names that ``fresh`` accepts: stages and compression methods."""
    from edgepack.pipeline.pipeline import stage_names

    return stage_names()


def _make_plan(recipe: Path | str, targets: Sequence[str] = (), *, trust: bool) -> "Plan":
    from edgepack.config.plan import make_plan

    return make_plan(Path(recipe), only=targets, running=_running_boards, trust=trust)


def _running_boards() -> dict[str, str]:
    from edgepack.pipeline.device import running_targets

    return running_targets()
