"""The command line: parses arguments, calls the API and prints the result.

Imports: __init__, api, base, config, engine, errors, pipeline, reporting, spec.
"""

import sys
from collections.abc import Sequence

import click

from edgepack import __version__
from edgepack.base.interrupt import terminable
from edgepack.cli import board, bundle, config, devices, sensitivity, work
from edgepack.cli.console import guard


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="edgepack")
def edgepack() -> None:
    """Compress, compile, tune and deploy models on edge devices, and measure them there.

    To start, run `edgepack init model.onnx`, then `edgepack check` and `edgepack run` on the recipe it writes.
    """


for command in (
    config.init,
    config.check,
    config.schema,
    config.targets,
    config.methods,
    config.completion,
    config.doctor,
    work.run,
    work.compress,
    sensitivity.sensitivity,
    work.tune,
    work.package,
    work.compile_,
    work.report,
    bundle.bundle,
    board.deploy,
    board.rollback,
    board.bench,
    board.profile,
    devices.devices,
):
    edgepack.add_command(command)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    with terminable():
        code = guard(
            lambda: edgepack.main(args, prog_name="edgepack", standalone_mode=False), as_json="--json" in args
        )
    sys.exit(code)
