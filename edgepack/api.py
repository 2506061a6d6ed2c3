"""The public functions: what the command line does, callable from Python.

Every function raises the errors of :mod:`edgepack.errors` and prints nothing. Heavy packages are imported
when a function needs them.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from edgepack.engine.events import Listener, ignore
from edgepack.errors import EdgepackError, Problem, UsageError

if TYPE_CHECKING:
    from edgepack.bundle.manifest import Manifest
    from edgepack.compression import Method
    from edgepack.config.plan import Plan
    from edgepack.config.recipe import Tune
    from edgepack.config.target import Target
    from edgepack.diagnosis import Diagnosis
    from edgepack.engine.artifact import Artifact
    from edgepack.lower import Compiled
    from edgepack.lower.deep import Examined
    from edgepack.lower.emit.cubin import CudaKernel
    from edgepack.measuring.measurement import Measurement
    from edgepack.pipeline.device import NamedDevice
    from edgepack.pipeline.strategy import Strategy
    from edgepack.pipeline.trace import Until
    from edgepack.remote.install import Installed
    from edgepack.remote.virtual import Board
    from edgepack.reporting.document import Report


def init(
    model: str, *, out: Path = Path("recipe.yaml"), targets: Sequence[str] = (), force: bool = False
) -> Path:
    """Write a commented recipe for a model of the user's own: an .onnx file or ``module:callable``."""
    from edgepack.config.init import init as write

    return write(out, model=model, targets=tuple(targets), force=force)


def check(recipe: Path | str) -> list[Problem]:
    """Every mistake in a recipe, each with its line and column; empty when there is none."""
    from edgepack.config.plan import examine

    return list(examine(Path(recipe)).problems)


def examine(path: Path | str) -> "Examined":
    """Everything that keeps a model from being lowered, before anything is built: an .onnx file's, or a recipe's.

    A recipe's model is taken as it comes, before compression; a torch source is exported.

    Raises:
        ConfigError: the recipe has mistakes.
        InputError: a torch source cannot be loaded or exported.
    """
    from edgepack.lower.deep import examine as lowerable

    if Path(path).suffix not in {".yaml", ".yml"}:
        return lowerable(Path(path))
    plan = _plan(path)
    model, base = plan.recipe.model, plan.base
    if model.onnx is not None:
        return lowerable(base / model.onnx, model.inputs)
    from edgepack.export import to_onnx
    from edgepack.torchnet.source import build_source

    with TemporaryDirectory(prefix="edgepack-check-") as folder:
        exported = to_onnx(build_source(model.source or "", base), model.inputs, Path(folder, "model.onnx"))
        return lowerable(exported)


def schema(kind: Literal["recipe", "target", "devices"]) -> dict[str, Any]:
    """The JSON Schema of a recipe, target or devices file."""
    from edgepack.config.schema import schema as make

    return make(kind)


def targets() -> "list[Target]":
    """Every target edgepack can build for, shipped and the user's own."""
    from edgepack.config.target import list_targets

    return list_targets()


def target(name: str) -> "Target":
    """One target by name, or by the path of its file."""
    from edgepack.config.target import load_target

    return load_target(name)


def run(
    recipe: Path | str,
    *,
    targets: Sequence[str] = (),
    fresh: Sequence[str] = (),
    listener: Listener = ignore,
    strategy: "Strategy | None" = None,
) -> "Report":
    """The whole job: compress, tune, compile, package, deploy, measure, report.

    Args:
        recipe: the recipe's path.
        targets: only these of the recipe's targets.
        fresh: stages to do anew although they are cached; ``all`` for every one.
        listener: called with the events of :mod:`edgepack.engine.events` and :mod:`edgepack.pipeline.trace`.
        strategy: proposes the candidates; by default the model as it came and the recipe's release.

    Returns:
        The report, also written to the run's folder. What failed is in it; ``exit_code`` sums it up.

    Raises:
        ConfigError: the recipe has mistakes; nothing was done.
    """
    plan = _plan(recipe, targets)
    return _run(plan, "bench", fresh=fresh, listener=listener, strategy=strategy)[0]


def compress(recipe: Path | str, *, fresh: Sequence[str] = (), listener: Listener = ignore) -> "Report":
    """Train or load the model and compress it; nothing is built for a target."""
    return _run(_plan(recipe), "evaluate", fresh=fresh, listener=listener)[0]


def tune(
    recipe: Path | str,
    *,
    targets: Sequence[str] = (),
    trials: int | None = None,
    minutes: float | None = None,
    listener: Listener = ignore,
) -> "Report":
    """Tune the kernels on each target's board, within the recipe's budget or the one given.

    Goes on where the last tuning stopped; the records serve every later build for the same target.
    """
    from edgepack.config.recipe import Tune

    for name, value in (("trials", trials), ("minutes", minutes)):
        if value is not None and value <= 0:
            raise UsageError(
                f"{name} is {value}: a budget is more than 0", next="leave it out for the recipe's"
            )
    given = trials is not None or minutes is not None
    plan = _plan(recipe, targets)
    if not given and not any(target.tune.trials or target.tune.minutes for target in plan.targets):
        raise UsageError(
            "the recipe has no budget for tuning", where=str(recipe), next="give --trials, --minutes or both"
        )
    if not any(target.devices for target in plan.targets):
        raise UsageError(
            "no target of the recipe has a device to measure on",
            where=str(recipe),
            next="name one in the recipe's targets; docs/add-a-device.md",
        )
    budget = Tune(trials=trials or 0, minutes=minutes) if given else None
    return _run(plan, "tune", fresh=("tune",), listener=listener, budget=budget)[0]


def build(
    recipe: Path | str,
    *,
    out: Path,
    targets: Sequence[str] = (),
    fresh: Sequence[str] = (),
    listener: Listener = ignore,
) -> "tuple[Report, list[Path]]":
    """Build the release bundle of each target into the folder ``out``; returns the report and the bundles."""
    from edgepack.base.files import write_atomic
    from edgepack.engine.store import Store

    report, artifacts, _ = _run(_plan(recipe, targets), "package", fresh=fresh, listener=listener)
    paths = [out / artifact.name for artifact in artifacts]
    for artifact, path in zip(artifacts, paths, strict=True):
        write_atomic(path, Store().path(artifact).read_bytes())
    return report, paths


def compile(  # noqa: A001 - the field's word; called as edgepack.compile
    model: Path | str,
    target: str,
    *,
    out: Path | None = None,
    dump: Path | None = None,
    listener: Listener = ignore,
) -> "Compiled":
    """Compile an .onnx file, or a recipe's release model, for one target, with the kernels tuned so far.

    Args:
        model: the .onnx file or the recipe.
        target: the target's name.
        out: the shared library to write; default ``MODEL-TARGET.so`` in the current folder.
        dump: a folder that gets the module after each lowering phase.
        listener: called with the events of :mod:`edgepack.engine.events`.
    """
    from edgepack.config.target import load_target
    from edgepack.engine.events import Advanced
    from edgepack.export import import_checked, load_onnx, open_batch
    from edgepack.lower import compile_model
    from edgepack.tuning import RecordStore, best_records

    path = Path(model)
    chosen = load_target(target)
    library = out or Path(f"{path.stem}-{chosen.name}.so")
    if library.is_dir() or any(parent.is_file() for parent in library.parents):
        raise UsageError(
            "cannot write the library there", where=str(library), why="a folder or a file is in the way"
        )
    with TemporaryDirectory(prefix="edgepack-compile-") as folder:
        if path.suffix in {".yaml", ".yml"}:
            onnx = _release_onnx(path, listener)
        else:
            onnx = Path(folder, "model.onnx")
            import_checked(path, open_batch(load_onnx(path)), onnx)
        return compile_model(
            onnx,
            chosen,
            library,
            records=best_records(onnx, chosen, RecordStore.of_user(emulated=False)),
            dump=dump,
            progress=lambda text: listener(Advanced(text=text)),
        )


def cuda_kernels(library: Path) -> "tuple[CudaKernel, ...]":
    """The CUDA kernels inside a compiled library, read from its cubins; empty for CPU targets."""
    from edgepack.lower.emit.cubin import kernels

    return kernels(library)


def report(run: str = "latest") -> "Report":
    """The report of an earlier run: by its id, a folder, a report.json, or ``latest``."""
    from edgepack.reporting.saved import find

    return find(run)


def run_folder(report: "Report") -> Path:
    """Where a run's report.json, report.md and report.html are."""
    from edgepack.reporting.saved import folder_of

    return folder_of(report)


def inspect(bundle: Path) -> "Manifest":
    """A bundle's manifest; its files are not checked."""
    from edgepack.bundle.archive import read_manifest

    return read_manifest(bundle)


def verify(bundle: Path) -> "Manifest":
    """Check every byte of a bundle against its manifest."""
    from edgepack.bundle.archive import verify as check_all

    return check_all(bundle)


def extract(bundle: Path, folder: Path) -> "Manifest":
    """Verify a bundle and unpack it into a new folder."""
    from edgepack.bundle.archive import extract as unpack

    return unpack(bundle, folder)


def deploy(bundle: Path, device: str, *, listener: Listener = ignore) -> "Installed":
    """Install a bundle on a device: preflight, upload, verify there, try it, switch ``current`` over.

    Raises:
        PreflightError: the board cannot take it; nothing was sent.
        DeployError: it failed; the board runs what it ran before.
        UnreachableError, TrustError, IntegrityError, LockedError: as their names say.
    """
    from edgepack.pipeline.device import deploy as install

    return install(bundle, device, listener)


def rollback(name: str, device: str) -> "Installed":
    """Go back to the release of ``name`` that was in use before the current one."""
    from edgepack.pipeline.device import rollback as back

    return back(name, device)


def bench(bundle: Path, device: str, *, runs: int = 100, warmup: int = 10, threads: int = 1) -> "Measurement":
    """Measure a bundle on a device without installing it; nothing stays there."""
    from edgepack.config.recipe import Bench
    from edgepack.pipeline.device import bench as measure

    return measure(bundle, device, Bench(runs=runs, warmup=warmup, threads=threads))


def devices() -> "list[NamedDevice]":
    """The devices of devices.yaml and the running virtual boards."""
    from edgepack.pipeline.device import devices as known

    return known()


def device_info(device: str) -> dict[str, Any]:
    """Probe a device through the agent, and list the releases it holds."""
    from edgepack.pipeline.device import info

    return info(device)


def trust(device: str) -> str:
    """Fetch a device's host key and add it to known_hosts; returns its fingerprint."""
    from edgepack.pipeline.device import trust as accept

    return accept(device)


def board_up(kind: str, name: str | None = None) -> "Board":
    """Start a virtual board that runs until :func:`boards_down`."""
    from edgepack.remote import virtual

    return virtual.up(kind, name)


def boards_down(name: str | None = None, *, everything: bool = False, purge: bool = False) -> list[str]:
    """Stop a virtual board, or all; ``purge`` forgets their files too. Returns the names."""
    from edgepack.remote import virtual

    if (name is None) == (not everything):
        raise UsageError("name one board, or ask for all", next="edgepack devices down NAME, or --all")
    names = [board.name for board in virtual.running()] if name is None else [name]
    for each in names:
        was_there = virtual.purge(each) if purge else virtual.down(each)
        if not was_there and name is not None:  # of all, one may have gone by itself meanwhile
            raise UsageError(f"no virtual board named {each} is up", next="edgepack devices list")
    return names


def doctor() -> "list[Diagnosis]":
    """What this machine can do, and what it lacks for the rest."""
    from edgepack.diagnosis import examine

    return examine()


def methods() -> "list[Method[Any]]":
    """Every compression method, those of other packages included."""
    from edgepack.compression.registry import METHODS

    return list(METHODS.values())


def unusable_methods() -> dict[str, str]:
    """The methods that installed packages offer and that cannot be used, with the reason."""
    from edgepack.compression.registry import REGISTRY

    return dict(REGISTRY.unusable)


def method_options(name: str) -> str:
    """The options of a compression method as a Markdown table.

    Raises:
        UsageError: there is no such method.
    """
    from edgepack.base.text import suggestion
    from edgepack.compression.registry import METHODS, REGISTRY
    from edgepack.config.tables import table

    if name in REGISTRY.unusable:
        raise UsageError(f"method {name} cannot be used", why=REGISTRY.unusable[name])
    if name not in METHODS:
        raise UsageError(
            f"there is no method {name}", next=suggestion(name, METHODS, otherwise="edgepack methods")
        )
    return table(METHODS[name].spec)


def stages() -> list[str]:
    """The names that ``fresh`` takes: stages and compression methods."""
    from edgepack.pipeline.pipeline import stage_names

    return stage_names()


def _plan(recipe: Path | str, targets: Sequence[str] = ()) -> "Plan":
    from edgepack.config.plan import make_plan

    return make_plan(Path(recipe), only=targets)


def _run(
    plan: "Plan",
    until: "Until",
    *,
    fresh: Sequence[str] = (),
    listener: Listener = ignore,
    budget: "Tune | None" = None,
    strategy: "Strategy | None" = None,
) -> "tuple[Report, list[Artifact], list[EdgepackError]]":
    from edgepack.pipeline.execute import execute
    from edgepack.reporting import saved
    from edgepack.reporting.fold import fold

    done = execute(plan, until, fresh=fresh, listener=listener, budget=budget, strategy=strategy)
    report = fold(done.trace.events)
    saved.save(report)
    return report, done.artifacts, done.errors


def _release_onnx(recipe: Path, listener: Listener) -> Path:
    """The ONNX model that a recipe's compression ends with."""
    from edgepack.engine.store import Store

    _, artifacts, errors = _run(_plan(recipe), "evaluate", listener=listener)
    if errors:
        raise errors[0]
    return Store().path(artifacts[0])
