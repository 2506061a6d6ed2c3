"""Commands that deploy, roll back, benchmark and profile a bundle on a board."""

import sys
from pathlib import Path

import click

from edgepack import api
from edgepack.base.text import human_size
from edgepack.cli import options
from edgepack.cli.console import emit_json, progress, say

_BUNDLE = click.argument("bundle", type=click.Path(path_type=Path, dir_okay=False))
_WARMUP = click.option(
    "--warmup",
    type=click.IntRange(0, 1_000_000),
    default=10,
    show_default=True,
    help="Warm-up inferences, at least.",
)
_THREADS = click.option(
    "--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Threads per inference."
)


@click.command()
@_BUNDLE
@options.device_argument
@options.json_option
def deploy(bundle: Path, device: str, as_json: bool) -> None:
    """Install BUNDLE on DEVICE.

    Checks the device, uploads the bundle, verifies its checksums, runs a test inference, and makes it current.
    """
    with progress() as listener:
        done = api.deploy(bundle, device, listener=listener)
    for note in done.notes:
        say(f"{device}: {note}", err=True)
    if as_json:
        emit_json({"edgepack": 1, **vars(done)})
    elif done.changed:
        say(
            f"{device}: {done.digest[:12]} is current, {human_size(done.bytes_sent)} sent in {done.seconds:.1f} s"
        )
    else:
        say(f"{device}: {done.digest[:12]} is already current; nothing was sent")


@click.command()
@click.argument("name")
@options.device_argument
@options.json_option
def rollback(name: str, device: str, as_json: bool) -> None:
    """Restore the previous release of NAME on DEVICE."""
    done = api.rollback(name, device)
    if as_json:
        emit_json({"edgepack": 1, **vars(done)})
    else:
        say(f"{device}: {name} was rolled back to {done.digest[:12]}")


@click.command()
@_BUNDLE
@options.device_argument
@click.option(
    "--runs",
    type=click.IntRange(2, 1_000_000),
    default=100,
    show_default=True,
    help="Measured inferences, at least: a measurement takes a second or more.",
)
@_WARMUP
@_THREADS
@options.json_option
def bench(bundle: Path, device: str, *, runs: int, warmup: int, threads: int, as_json: bool) -> None:
    """Benchmark BUNDLE on DEVICE.

    The bundle is not installed, and temporary files are removed.
    """
    with progress():
        measured = api.bench(bundle, device, runs=runs, warmup=warmup, threads=threads)
    if as_json:
        emit_json(measured.model_dump(mode="json"))
        return
    latency = measured.latency
    label = "" if measured.verdict.valid else " (not valid)"
    label = " (emulated: not comparable)" if measured.emulated else label
    say(f"p50 {latency.p50:.3f} ms, p90 {latency.p90:.3f} ms, p99 {latency.p99:.3f} ms{label}")
    of = f"median of {measured.starts} starts" if measured.starts > 1 else "one start"
    say(
        f"first {measured.first_ms:.3f} ms, load {measured.load_ms:.1f} ms ({of}), peak RSS {measured.peak_rss_kib} KiB"
    )
    say(f"{len(measured.samples_ns)} inferences after {measured.warmup} to warm up")
    reasons = "; ".join(measured.verdict.reasons)
    say("measurement: valid" if measured.verdict.valid else f"measurement: not valid ({reasons})")


@click.command()
@_BUNDLE
@options.device_argument
@click.option(
    "--runs",
    type=click.IntRange(2, 10_000),
    default=100,
    show_default=True,
    help="Inferences with the times of kernels, and as many without.",
)
@_WARMUP
@_THREADS
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
