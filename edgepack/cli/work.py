"""Commands that run the pipeline, or part of it."""

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepack import api
from edgepack.base.text import human_size
from edgepack.cli import options
from edgepack.cli.console import (
    describe_constants,
    describe_execution,
    emit_json,
    progress,
    say,
    show_rendered,
)
from edgepack.errors import render

if TYPE_CHECKING:
    from edgepack.reporting.document import Report, TuningRow
    from edgepack.spec.runtime import Static

_FORMS: dict[str, "Static"] = {"bundle": False, "shared": False, "static": True, "embedded": "embedded"}
"""What ``--as`` says, as the API takes it."""


def _finish(report: "Report", *, as_json: bool) -> int:
    """Print a report on stdout and its errors on stderr; return its exit code."""
    if as_json:
        emit_json(report.model_dump(mode="json"))
    for error in report.errors:  # first: what follows is explained by it
        fields = error.model_dump(include={"where", "why", "state", "next"})
        place = " ".join(part for part in (error.stage, error.target) if part)
        show_rendered(render(f"{place}: {error.message}" if place else error.message, **fields))
    if not as_json:
        from edgepack.reporting.terminal import print_report

        print_report(report, sys.stdout)
        say(f"report: {api.run_folder(report) / 'report.html'}", err=True)
    return report.exit_code


@click.command()
@options.recipe_argument
@options.targets_option
@options.fresh_option
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Output folder for the bundles [default: the run's folder].",
)
@options.offline_option
@options.trust_option
@options.json_option
def run(
    recipe: Path,
    targets: tuple[str, ...],
    fresh: tuple[str, ...],
    *,
    out: Path | None,
    offline: bool,
    trust: bool,
    as_json: bool,
) -> int:
    """Run the full pipeline.

    Stages: compress, tune, compile, package, deploy, benchmark, report.
    """
    with progress() as listener:
        report = api.run(
            recipe, out=out, targets=targets, fresh=fresh, listener=listener, offline=offline, trust=trust
        )
    code = _finish(report, as_json=as_json)
    _show_bundles(api.bundles(report, out))
    return code


def _show_bundles(paths: Iterable[Path]) -> None:
    for path in paths:
        say(f"bundle: {path}", err=True)


@click.command()
@options.recipe_argument
@options.fresh_option
@options.trust_option
@options.json_option
def compress(recipe: Path, fresh: tuple[str, ...], trust: bool, as_json: bool) -> int:
    """Train or load the model and compress it.

    Does not build for a target.
    """
    with progress() as listener:
        report = api.compress(recipe, fresh=fresh, listener=listener, trust=trust)
    return _finish(report, as_json=as_json)


@click.command()
@options.recipe_argument
@options.targets_option
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    help="Number of candidates to measure, instead of the recipe's budget.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Time limit, instead of the recipe's budget.",
)
@options.trust_option
@options.json_option
def tune(
    recipe: Path,
    *,
    targets: tuple[str, ...],
    trials: int | None,
    minutes: float | None,
    trust: bool,
    as_json: bool,
) -> int:
    """Tune the kernels on each target's board.

    Resumes the previous tuning run.
    """
    with progress() as listener:
        report = api.tune(
            recipe, targets=targets, trials=trials, minutes=minutes, listener=listener, trust=trust
        )
    code = _finish(report, as_json=as_json)
    if not as_json:
        for tuning in report.tuning:
            _show_tuning(tuning)
    return code


def _show_tuning(tuning: "TuningRow") -> None:
    """Print the untuned kernels, slowest first, with the reason for each."""
    from edgepack.reporting.tuning import kernel_outcome

    rest = sorted((k for k in tuning.kernels if not k.tuned), key=lambda k: -(k.share or 0))
    if rest:
        share = sum(k.share or 0 for k in rest)
        say(f"{tuning.target} {tuning.candidate}: untuned kernels, {share:.0%} of the predicted runtime:")
    for kernel in rest:
        say(f"  {kernel.share or 0:6.1%}  {kernel.name} ({kernel_outcome(kernel)})")


@click.command()
@options.recipe_argument
@options.targets_option
@options.fresh_option
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Output folder for the bundles [default: the current folder].",
)
@click.option(
    "--as",
    "form",
    type=click.Choice(["bundle", "static", "embedded"]),
    default="bundle",
    help="A bundle for each target, or a folder with a static library, its header and build files; embedded: with its "
    "weights in it.",
)
@options.offline_option
@options.trust_option
@options.json_option
def package(
    recipe: Path,
    *,
    targets: tuple[str, ...],
    fresh: tuple[str, ...],
    out: Path,
    form: str,
    offline: bool,
    trust: bool,
    as_json: bool,
) -> int:
    """Build a bundle for each target. A board is used only if the recipe tunes."""
    with progress() as listener:
        report, bundles = api.build(
            recipe,
            targets=targets,
            fresh=fresh,
            out=out,
            static=_FORMS[form],
            listener=listener,
            offline=offline,
            trust=trust,
        )
    code = _finish(report, as_json=as_json)
    for folder in bundles if form != "bundle" else ():
        say(f"static library: {folder}", err=True)
    _show_bundles(bundles if form == "bundle" else ())
    return code


@click.command("compile")
@click.argument("model", type=click.Path(path_type=Path, dir_okay=False))
@options.target_option
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Output file [default: MODEL-TARGET.so in the current folder]; for a static library, a new folder.",
)
@click.option(
    "--as",
    "form",
    type=click.Choice(["shared", "static", "embedded"]),
    default="shared",
    help="A shared library, or a folder with a static one, its header and build files; embedded: with its weights in it.",
)
@click.option(
    "--dump",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write the module to after each lowering phase.",
)
@options.trust_option
@options.json_option
def compile_(
    model: Path, *, target: str, out: Path | None, form: str, dump: Path | None, trust: bool, as_json: bool
) -> None:
    """Compile MODEL for one target.

    MODEL is an .onnx file or a recipe. Existing tuning records are used.
    """
    with progress() as listener:
        compiled = api.compile(
            model,
            target,
            out=out,
            dump=dump,
            static=_FORMS[form],
            listener=listener,
            trust=trust,
        )
    if as_json:
        cuda = api.cuda_kernels(compiled.path)
        fields = {name: value for name, value in vars(compiled).items() if name != "sources"}
        emit_json({"edgepack": 1, **fields, "cuda_kernels": cuda})
        return
    tuned = sum(kernel.tuned for kernel in compiled.kernels)
    say(f"{compiled.path}: {human_size(compiled.path.stat().st_size)}, {compiled.seconds:.1f} s")
    if compiled.weights:
        say(f"{compiled.weights}: {human_size(compiled.weights.stat().st_size)}")
    say(f"kernels: {len(compiled.kernels)}, {tuned} tuned, {len(compiled.kernels) - tuned} untuned")
    for kind, tensors in (("input", compiled.inputs), ("output", compiled.outputs)):
        for tensor in tensors:
            say(f"{kind}: {tensor.name} {tensor.dtype}{list(tensor.shape)}")
    for line in describe_execution(compiled.executor, compiled.executor_reason, compiled.memory):
        say(f"executor: {line}")
    for line in describe_constants(compiled.constants):
        say(f"weights: {line}")
    device = Counter(kernel.arch for kernel in api.cuda_kernels(compiled.path))
    for arch, count in device.items():
        say(f"CUDA kernels in the library: {count} for {arch}")
    for warning in compiled.warnings:
        say(f"warning: {warning}", err=True)
    for need in compiled.requires:
        say(f"required on the board: {need}")


@click.command()
@click.argument("run", default="latest", shell_complete=options.complete_run)
@options.json_option
def report(run: str, as_json: bool) -> None:
    """Show the report of an earlier run.

    RUN is the id of a run, its folder, its report.json, or `latest` (the default).
    """
    loaded = api.report(run)
    if as_json:
        emit_json(loaded.model_dump(mode="json"))
        return
    from edgepack.reporting.terminal import print_report

    print_report(loaded, sys.stdout)
    page = api.run_folder(loaded) / "report.html"
    if page.is_file():  # missing if the report was copied from another machine
        say(f"report: {page}", err=True)
