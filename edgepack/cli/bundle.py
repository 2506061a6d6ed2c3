"""Commands that read bundle files; they need no board."""

from pathlib import Path

import click

from edgepack import api
from edgepack.base.text import human_size
from edgepack.cli import options
from edgepack.cli.console import describe_constants, describe_execution, emit_json, say

_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group()
def bundle() -> None:
    """Inspect, verify or extract a bundle."""


@bundle.command()
@_FILE
@options.json_option
def inspect(file: Path, as_json: bool) -> None:
    """Print the target, inputs, outputs, weights and files of a bundle."""
    manifest = api.inspect(file)
    if as_json:
        emit_json({**manifest.model_dump(mode="json"), "digest": manifest.digest})
        return
    say(f"{manifest.name} {manifest.version} ({manifest.candidate}) for {manifest.target.name}")
    say(f"digest   {manifest.digest}")
    say(
        f"board    {manifest.target.abi.arch}, glibc ≥ {manifest.target.abi.libc}, {manifest.target.device_kind}"
    )
    for label, tensors in (("input", manifest.inputs), ("output", manifest.outputs)):
        for tensor in tensors:
            say(f"{label:<8} {tensor.name} {tensor.dtype}{list(tensor.shape)}")
    for line in describe_execution(manifest.executor, manifest.executor_reason, manifest.memory):
        say(f"executor {line}")
    for line in describe_constants(manifest.constants):
        say(f"weights  {line}")
    for entry in manifest.files:
        say(f"{human_size(entry.size):>9}  {entry.sha256[:12]}  {entry.path}")


@bundle.command()
@_FILE
def verify(file: Path) -> None:
    """Verify the checksum of every file in the bundle."""
    manifest = api.verify(file)
    say(f"{file}: ok, {len(manifest.files)} files, digest {manifest.digest}", err=True)


@bundle.command()
@_FILE
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def extract(file: Path, folder: Path) -> None:
    """Verify the bundle and extract it into a new FOLDER."""
    api.extract(file, folder)
    say(f"extracted to {folder}", err=True)
