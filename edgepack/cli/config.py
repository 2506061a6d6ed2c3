"""Commands for recipes, targets, schemas and methods, and for checking this machine."""

from pathlib import Path
from shlex import quote
from typing import Literal

import click
from click.shell_completion import get_completion_class

from edgepack import api
from edgepack.base.filekind import use_of
from edgepack.cli import options
from edgepack.cli.console import emit_json, say
from edgepack.errors import ConfigError, GateError, UnsupportedError, UsageError


@click.command()
@click.argument("model")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("recipe.yaml"), show_default=True)
@click.option(
    "-t",
    "--target",
    "targets",
    multiple=True,
    shell_complete=options.complete_target,
    help="Target to build for (may be repeated).",
)
@click.option("--force", is_flag=True, help="Overwrite the file if it exists.")
def init(model: str, out: Path, targets: tuple[str, ...], force: bool) -> None:
    """Write a commented recipe for MODEL.

    MODEL is an .onnx file, or module:callable for a function that returns a torch.nn.Module.
    """
    path = api.init(model, out=out, targets=targets, force=force)
    say(f"wrote {path}", err=True)
    say(f"next: edgepack check {quote(str(path))}", err=True)


@click.command()
@options.recipe_argument
@click.option(
    "--deep",
    is_flag=True,
    help="Also lower the model and list every operator that cannot be lowered; accepts an .onnx file too.",
)
@options.trust_option
@options.json_option
def check(recipe: Path, deep: bool, trust: bool, as_json: bool) -> int:
    """Report all problems in RECIPE at once, as file:line:column."""
    if deep:
        return _check_deep(recipe, trust=trust, as_json=as_json)
    if trust:
        raise UsageError("without --deep, check loads no weights file", next="leave --trust out")
    if recipe.suffix not in {".yaml", ".yml"} and use_of(recipe) == "model":
        raise UsageError(
            f"{recipe} is a model, not a recipe", next=f"edgepack check --deep {quote(str(recipe))}"
        )
    found = api.checked(recipe)
    if as_json:
        shown = {"problems": [vars(problem) for problem in found.problems], "notes": list(found.notes)}
        emit_json({"edgepack": 1, "recipe": str(recipe), **shown})
        return ConfigError.exit_code if found.problems else 0
    if found.problems:
        raise ConfigError(list(found.problems))
    for note in found.notes:
        say(f"{recipe}: {note}", err=True)
    say(f"{recipe}: ok", err=True)
    return 0


def _check_deep(path: Path, *, trust: bool, as_json: bool) -> int:
    examined = api.examine(path, trust=trust)
    if as_json:
        fields = {**vars(examined), "model_problems": [vars(problem) for problem in examined.model_problems]}
        emit_json({"edgepack": 1, "model": str(path), **fields})
        return UnsupportedError.exit_code if examined.model_problems else 0
    if examined.model_problems:
        raise UnsupportedError(str(path), list(examined.model_problems))
    nodes = sum(examined.operators.values())
    counts = f"{nodes} nodes of {len(examined.operators)} operators, {examined.parameters:,} parameters"
    for note in examined.notes:
        say(f"{path}: {note}", err=True)
    say(f"{path}: ok, {counts}, {examined.kernels} kernels", err=True)
    return 0


@click.command()
@click.argument("kind", type=click.Choice(["recipe", "target", "devices"]))
def schema(kind: Literal["recipe", "target", "devices"]) -> None:
    """Print a JSON Schema for editors."""
    emit_json(api.schema(kind))


@click.group(invoke_without_command=True)
@options.json_option
@click.pass_context
def targets(context: click.Context, as_json: bool) -> None:
    """List the available targets; `targets show NAME` prints one."""
    if context.invoked_subcommand:
        return
    listed = api.targets()
    if as_json:
        emit_json({"edgepack": 1, "targets": [t.model_dump(mode="json") for t in listed]})
        return
    width = max(len(t.name) for t in listed)
    for t in listed:
        chip = f"{t.cpu.cores}x {t.cpu.name}" + (f" + {t.gpu.name} ({t.gpu.arch})" if t.gpu else "")
        say(f"{t.name:<{width}}  {t.abi.arch:<8} glibc {t.abi.libc:<5} {t.family:<13} {t.title} · {chip}")


@targets.command("show")
@click.argument("name", shell_complete=options.complete_target)
@click.option("--tvm", is_flag=True, help="Print only the TVM target.")
def show_target(name: str, tvm: bool) -> None:
    """Print one target as JSON."""
    target = api.target(name)
    emit_json(target.tvm if tvm else target.model_dump(mode="json"))


@click.command()
@click.argument("method", required=False, shell_complete=options.complete_method)
@options.json_option
def methods(method: str | None, as_json: bool) -> None:
    """List the compression methods.

    Includes methods from other packages. With METHOD, lists the options of the method.
    """
    if method is not None:
        for line in api.method_options(method).splitlines():
            say(line)
        return
    available, unusable = api.methods(), api.unusable_methods()
    if as_json:
        rows = [
            {
                "name": m.name,
                "level": m.levels[0],
                "levels": m.levels,
                "origin": m.origin,
                "summary": m.summary,
            }
            for m in available
        ]
        emit_json({"edgepack": 1, "methods": rows, "unusable": unusable})
        return
    width = max(len(m.name) for m in available)
    for m in available:
        say(f"{m.name:<{width}}  {', '.join(m.levels):<11} {m.origin:<12} {m.summary}")
    for name, why in unusable.items():
        say(f"{name}: not available: {why}", err=True)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a shell completion script.

    To enable completion, run `eval "$(edgepack completion bash)"`.
    """
    completer = get_completion_class(shell)
    if completer is None:
        raise UsageError(f"completion is not supported for {shell}")
    script = completer(context.find_root().command, {}, "edgepack", "_EDGEPACK_COMPLETE").source()
    for line in script.splitlines():
        say(line)


@click.command()
@options.json_option
def doctor(as_json: bool) -> int:
    """Check what works on this machine.

    Checks compilers, runtime libraries, caches and virtual boards, and says how to install what is missing.
    """
    checks = api.doctor()
    failed = [check.name for check in checks if check.required and not check.ok]
    if as_json:
        emit_json({"edgepack": 1, "checks": [vars(check) for check in checks]})
        return GateError.exit_code if failed else 0
    for check in checks:
        mark = "ok     " if check.ok else ("FAILED " if check.required else "missing")
        say(f"{mark} {check.name:<16} {check.detail}")
        if not check.ok:
            say(f"        {'':<16} {check.hint}")
    if failed:
        raise GateError(f"required checks failed: {', '.join(failed)}")
    return 0
