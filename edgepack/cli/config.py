"""Commands about what the user writes: recipes, targets, schemas, and this machine."""

from pathlib import Path
from typing import Literal

import click
from click.shell_completion import get_completion_class

from edgepack import api
from edgepack.cli import options
from edgepack.cli.console import emit_json
from edgepack.errors import ConfigError, GateError, UnsupportedError, UsageError


@click.command()
@click.argument("model")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("recipe.yaml"), show_default=True)
@click.option(
    "-t", "--target", "targets", multiple=True, help="Targets to build for; several times for several."
)
@click.option("--force", is_flag=True, help="Overwrite the file if it exists.")
def init(model: str, out: Path, targets: tuple[str, ...], force: bool) -> None:
    """Write a commented recipe for your own MODEL: an .onnx file or module:callable."""
    path = api.init(model, out=out, targets=targets, force=force)
    click.echo(f"wrote {path}\nnext: edgepack check {path}", err=True)


@click.command()
@options.recipe_argument
@click.option(
    "--deep",
    is_flag=True,
    help="Lower the model, too, and name every operator that cannot be; takes an .onnx file as well.",
)
@options.json_option
def check(recipe: Path, deep: bool, as_json: bool) -> int:
    """Report every mistake in RECIPE at once, as file:line:column."""
    if deep:
        return _check_deep(recipe, as_json=as_json)
    if recipe.suffix == ".onnx":
        raise UsageError(f"{recipe} is a model, not a recipe", next=f"edgepack check --deep {recipe}")
    problems = api.check(recipe)
    if as_json:
        emit_json({"edgepack": 1, "recipe": str(recipe), "problems": [vars(p) for p in problems]})
        return ConfigError.exit_code if problems else 0
    if problems:
        raise ConfigError(problems)
    click.echo(f"{recipe}: ok", err=True)
    return 0


def _check_deep(path: Path, *, as_json: bool) -> int:
    examined = api.examine(path)
    if as_json:
        fields = {**vars(examined), "model_problems": [vars(problem) for problem in examined.model_problems]}
        emit_json({"edgepack": 1, "model": str(path), **fields})
        return UnsupportedError.exit_code if examined.model_problems else 0
    if examined.model_problems:
        raise UnsupportedError(str(path), list(examined.model_problems))
    nodes = sum(examined.operators.values())
    counts = f"{nodes} nodes of {len(examined.operators)} operators, {examined.parameters:,} parameters"
    click.echo(f"{path}: can be compiled: {counts}, {examined.kernels} kernels", err=True)
    return 0


@click.command()
@click.argument("kind", type=click.Choice(["recipe", "target", "devices"]))
def schema(kind: Literal["recipe", "target", "devices"]) -> None:
    """Print the JSON Schema of a recipe, target or devices file, for editors."""
    emit_json(api.schema(kind))


@click.group(invoke_without_command=True)
@options.json_option
@click.pass_context
def targets(context: click.Context, as_json: bool) -> None:
    """List what edgepack can build for; `targets show NAME` prints one."""
    if context.invoked_subcommand:
        return
    found = api.targets()
    if as_json:
        emit_json({"edgepack": 1, "targets": [t.model_dump(mode="json") for t in found]})
        return
    width = max(len(t.name) for t in found)
    for t in found:
        chip = f"{t.cpu.cores}x {t.cpu.name}" + (f" + {t.gpu.name} ({t.gpu.arch})" if t.gpu else "")
        click.echo(
            f"{t.name:<{width}}  {t.abi.arch:<8} glibc {t.abi.libc:<5} {t.family:<13} {t.title} · {chip}"
        )


@targets.command("show")
@click.argument("name")
@click.option("--tvm", is_flag=True, help="Print only what TVM gets.")
def show_target(name: str, tvm: bool) -> None:
    """Print one target as JSON."""
    target = api.target(name)
    emit_json(target.tvm if tvm else target.model_dump(mode="json"))


@click.command()
@click.argument("method", required=False, shell_complete=options.complete_method)
@options.json_option
def methods(method: str | None, as_json: bool) -> None:
    """List the compression methods, those of other packages included; with METHOD its options."""
    if method is not None:
        click.echo(api.method_options(method), nl=False)
        return
    found, unusable = api.methods(), api.unusable_methods()
    if as_json:
        listed = [{"name": m.name, "level": m.level, "origin": m.origin, "summary": m.summary} for m in found]
        emit_json({"edgepack": 1, "methods": listed, "unusable": unusable})
        return
    width = max(len(m.name) for m in found)
    for m in found:
        click.echo(f"{m.name:<{width}}  {m.level:<6} {m.origin:<12} {m.summary}")
    for name, why in unusable.items():
        click.echo(f"{name}: cannot be used: {why}", err=True)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script: `eval "$(edgepack completion bash)"`."""
    made = get_completion_class(shell)
    if made is None:
        raise UsageError(f"click has no completion for {shell}")
    click.echo(made(context.find_root().command, {}, "edgepack", "_EDGEPACK_COMPLETE").source())


@click.command()
@options.json_option
def doctor(as_json: bool) -> int:
    """Say what this machine can do: compilers, virtual boards, caches, and what is missing for the rest."""
    checks = api.doctor()
    broken = [check.name for check in checks if check.required and not check.ok]
    if as_json:
        emit_json({"edgepack": 1, "checks": [vars(check) for check in checks]})
        return GateError.exit_code if broken else 0
    for check in checks:
        mark = "ok     " if check.ok else ("FAILED " if check.required else "missing")
        click.echo(f"{mark} {check.name:<16} {check.detail}")
        if not check.ok:
            click.echo(f"        {'':<16} {check.hint}")
    if broken:
        raise GateError(f"not usable here: {', '.join(broken)}")
    return 0
