"""The command that scans how sensitive each layer is."""

from pathlib import Path
from typing import get_args

import click

from edgepack import api
from edgepack.cli import options
from edgepack.cli.console import emit_json, progress, say
from edgepack.spec.sensitivity import ProbeKind


@click.command()
@options.recipe_argument
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Training samples on which outputs are compared.",
)
@click.option(
    "--probe",
    "probes",
    multiple=True,
    type=click.Choice(get_args(ProbeKind)),
    help="Try only this on each layer (may be repeated).",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write plots and tables: an .html or .md file.",
)
@options.fresh_option
@options.trust_option
@options.json_option
def sensitivity(
    recipe: Path,
    *,
    samples: int,
    probes: tuple[ProbeKind, ...],
    out: Path | None,
    fresh: tuple[str, ...],
    trust: bool,
    as_json: bool,
) -> None:
    """Scan how sensitive each layer is to compression.

    Changes one layer of the original model at a time: fewer bits for its weights or its input, zeros, a lower rank. Shows
    the signal-to-noise ratio of the outputs, and the metric.
    """
    from edgepack.reporting.sensitivity import to_lines

    with progress() as listener:
        found = api.sensitivity(
            recipe, samples=samples, probes=probes, out=out, fresh=fresh, listener=listener, trust=trust
        )
    if as_json:
        emit_json({"edgepack": 1, "recipe": str(recipe), **found.model_dump(mode="json")})
    else:
        for line in to_lines(found):
            say(line)
    if out is not None:
        say(f"wrote {out}", err=True)
