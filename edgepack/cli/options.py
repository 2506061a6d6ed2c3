"""Options shared by several commands, and shell completion."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from edgepack.errors import EdgepackError


def complete_target(
    _context: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of a target."""
    from edgepack import api

    with suppress(EdgepackError):  # problems in a file are reported when a command runs, not on TAB
        return [CompletionItem(t.name, help=t.title) for t in api.targets() if t.name.startswith(incomplete)]
    return []


def _complete_device(
    _context: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from edgepack import api

    with suppress(EdgepackError):
        return [
            CompletionItem(d.name, help=d.device.host) for d in api.devices() if d.name.startswith(incomplete)
        ]
    return []


def complete_running(
    _context: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete a NAME argument with the running virtual boards."""
    from edgepack import api

    with suppress(EdgepackError):
        running = [device for device in api.devices() if device.virtual]
        return [
            CompletionItem(d.name, help=d.device.target) for d in running if d.name.startswith(incomplete)
        ]
    return []


def complete_run(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a RUN argument with the ids of the runs, the latest first, and files."""
    from edgepack import api

    ids = [CompletionItem(run) for run in ("latest", *api.runs()) if run.startswith(incomplete)]
    return ids or [CompletionItem(incomplete, type="file")]


def device_argument(function: Any) -> Any:
    """Add the DEVICE argument."""
    return click.argument("device", shell_complete=_complete_device)(function)


def recipe_argument(function: Any) -> Any:
    """Add the RECIPE argument."""
    return click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))(function)


def targets_option(function: Any) -> Any:
    """Add ``--target``, which may be repeated."""
    return click.option(
        "-t", "--target", "targets", multiple=True, shell_complete=complete_target,
        help="Build only this target (may be repeated).",
    )(function)  # fmt: skip


def target_option(function: Any) -> Any:
    """Add a required ``--target``."""
    return click.option(
        "-t",
        "--target",
        required=True,
        shell_complete=complete_target,
        help="Target to build for; see `edgepack targets`.",
    )(function)


def _complete_stage(
    _context: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from edgepack import api

    return [CompletionItem(name) for name in (*api.stages(), "all") if name.startswith(incomplete)]


def complete_method(
    _context: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete a METHOD argument with the compression methods."""
    from edgepack import api

    return [CompletionItem(m.name, help=m.summary) for m in api.methods() if m.name.startswith(incomplete)]


def fresh_option(function: Any) -> Any:
    """Add ``--fresh STAGE``."""
    return click.option(
        "--fresh",
        multiple=True,
        metavar="STAGE",
        shell_complete=_complete_stage,
        help="Re-run this stage even if it is cached (may be repeated); `all` re-runs everything.",
    )(function)


def offline_option(function: Any) -> Any:
    """Add ``--offline``."""
    return click.option(
        "--offline", is_flag=True, help="Do not ask the boards first whether they can be reached."
    )(function)


def trust_option(function: Any) -> Any:
    """Add ``--trust``."""
    return click.option(
        "--trust",
        is_flag=True,
        help="Load pickled objects in weights files, which runs the code that they name.",
    )(function)


def json_option(function: Any) -> Any:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")(
        function
    )
