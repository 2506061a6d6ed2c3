"""The command that measures the kernels of a bundle."""

import sys
from pathlib import Path

import click

from edgepack import api
from edgepack.cli import options
from edgepack.cli.console import emit_json, progress, say


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, dir_okay=False))
@options.device_argument
@click.option(
    "--runs",
    type=click.IntRange(2, 10_000),
    default=100,
    show_default=True,
    help="Inferences with the times of kernels, and as many without.",
)
@click.option(
    "--warmup", type=click.IntRange(0, 1_000_000), default=10, show_default=True, help="Warm-up inferences."
)
@click.option(
    "--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Threads per inference."
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write a timeline of an inference for chrome://tracing or ui.perfetto.dev.",
)
@options.json_option
def profile(
    bundle: Path, device: str, *, runs: int, warmup: int, threads: int, trace: Path | None, as_json: bool
) -> None:
    """Measure each kernel of BUNDLE on DEVICE.

    Prints the time of each kernel, its share of what the board can do, and the ONNX nodes that it computes. The bundle is
    not installed, and temporary files are removed.
    """
    with progress():
        measured = api.profile(bundle, device, runs=runs, warmup=warmup, threads=threads, trace=trace)
    if as_json:
        emit_json(measured.model_dump(mode="json"))
    else:
        from edgepack.reporting.terminal import print_profile

        print_profile(measured, sys.stdout)
    if trace is not None:
        say(f"trace: {trace}", err=True)
