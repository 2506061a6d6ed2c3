"""Commands that build: the whole run, or a part of it."""

from pathlib import Path
from typing import Any

import click

from edgepack import api
from edgepack.cli import options
from edgepack.cli.console import emit_json, progress


def _finish(report: Any, *, as_json: bool) -> int:
    """Print a report's table or document; its exit code is the command's."""
    if as_json:
        emit_json(report.model_dump(mode="json"))
    else:
        from edgepack.report.terminal import print_report

        print_report(report)
        click.echo(f"\nreport: {api.run_folder(report) / 'report.html'}", err=True)
    return int(report.exit_code)


@click.command()
@options.recipe_argument
@options.targets_option
@options.fresh_option
@options.json_option
def run(recipe: Path, targets: tuple[str, ...], fresh: tuple[str, ...], as_json: bool) -> int:
    """Do the whole job: compress, compile, tune, package, deploy, benchmark, report."""
    with progress() as listener:
        report = api.run(recipe, targets=targets, fresh=fresh, listener=listener)
    return _finish(report, as_json=as_json)


@click.command()
@options.recipe_argument
@options.fresh_option
@options.json_option
def compress(recipe: Path, fresh: tuple[str, ...], as_json: bool) -> int:
    """Train or load the model and compress it; nothing is built for a target."""
    with progress() as listener:
        report = api.compress(recipe, fresh=fresh, listener=listener)
    return _finish(report, as_json=as_json)


@click.command()
@options.recipe_argument
@options.targets_option
@click.option("--trials", type=click.IntRange(min=1), help="Instead of the recipe's budget.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="Stop after this long.")
@options.json_option
def tune(recipe: Path, targets: tuple[str, ...], trials: int | None, minutes: float | None, as_json: bool) -> int:
    """Tune the model's kernels on each target's board; goes on where the last tuning stopped."""
    with progress() as listener:
        report = api.tune(recipe, targets=targets, trials=trials, minutes=minutes, listener=listener)
    return _finish(report, as_json=as_json)


@click.command()
@options.recipe_argument
@options.targets_option
@options.fresh_option
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Folder for the bundles.")
@options.json_option
def package(recipe: Path, targets: tuple[str, ...], fresh: tuple[str, ...], out: Path, as_json: bool) -> int:
    """Build a bundle for each target and put it into a folder; no board is touched unless tuning is asked for."""
    with progress() as listener:
        report, bundles = api.package(recipe, targets=targets, fresh=fresh, out=out, listener=listener)
    code = _finish(report, as_json=as_json)
    for path in bundles:
        click.echo(f"bundle: {path}", err=True)
    return code


@click.command("compile")
@click.argument("model", type=click.Path(path_type=Path, dir_okay=False))
@options.target_option
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Default: MODEL-TARGET.so beside the current folder.")
@click.option("--dump", type=click.Path(path_type=Path, file_okay=False), help="Write the module after each lowering phase here.")
@options.json_option
def compile_(model: Path, target: str, out: Path | None, dump: Path | None, as_json: bool) -> int:
    """Compile MODEL (.onnx, or a recipe's release) for one target, with the kernels tuned so far."""
    with progress() as listener:
        compiled = api.compile(model, target, out=out, dump=dump, listener=listener)
    if as_json:
        emit_json({"edgepack": 1, **compiled.to_json()})
        return 0
    for line in compiled.summary():
        click.echo(line)
    return 0


@click.command()
@click.argument("run", default="latest")
@options.json_option
def report(run: str, as_json: bool) -> int:
    """Show the report of a RUN again: its id, a folder, a report.json, or `latest`."""
    return _finish(api.report(run), as_json=as_json) * 0
