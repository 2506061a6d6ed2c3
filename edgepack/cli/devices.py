"""Commands for devices: boards and virtual boards."""

import click

from edgepack import api
from edgepack.cli import options
from edgepack.cli.board_info import describe
from edgepack.cli.console import emit_json, progress, say
from edgepack.config.device import FAULTS, VIRTUAL_KINDS
from edgepack.errors import GateError

_MARKS = {"passed": "ok", "failed": "FAILED"}


@click.group()
def devices() -> None:
    """Manage devices and virtual boards."""


@devices.command("list")
@options.json_option
def list_(as_json: bool) -> None:
    """List devices and running virtual boards."""
    listed = api.devices()
    if as_json:
        emit_json({"edgepack": 1, "devices": [d.to_json() for d in listed]})
        return
    if not listed:
        say(
            "no devices: add one to devices.yaml (docs/add-a-device.md), or run `edgepack devices up --virtual rpi4`",
            err=True,
        )
    for d in listed:
        where = f"{d.device.user + '@' if d.device.user else ''}{d.device.host}" + (
            f":{d.device.port}" if d.device.port else ""
        )
        marks = [
            *(["virtual"] if d.virtual else []),
            *(["emulated"] if d.device.emulated else []),
            *([f"order {d.order}"] if d.order not in {None, "forward"} else []),
            *([f"fault {d.fault}"] if d.fault else []),
        ]
        say("  ".join((f"{d.name:<20} {d.device.target:<14} {where}", *marks)))


@devices.command()
@options.device_argument
@options.json_option
def info(device: str, as_json: bool) -> None:
    """Show a device's state and releases.

    Shows its hardware, libc, memory, clocks and installed releases.
    """
    probe = api.device_info(device)
    if as_json:
        emit_json({"edgepack": 1, **probe})
        return
    for label, text in describe(probe):
        say(f"{label:<12} {text}")


@devices.command()
@options.device_argument
@click.option(
    "--case", "cases", multiple=True, help="Run only this case (may be repeated), and measure nothing."
)
@options.json_option
def selftest(device: str, cases: tuple[str, ...], as_json: bool) -> int:
    """Test a device, and compare what it computes.

    Checks the board and its agent, runs a tiny release and, on a GPU, single kernels, compares their results with the
    reference, and measures what only hardware shows. Nothing is installed; temporary files are removed. Takes a minute
    or two, most of it for building.
    """
    with progress() as listener:
        tested = api.selftest(device, cases=cases, listener=listener)
    if as_json:
        emit_json({"edgepack": 1, **tested.model_dump(mode="json"), "failed": tested.failed})
        return GateError.exit_code if tested.failed else 0
    for check in tested.checks:
        mark = _MARKS.get(check.status, check.status)
        say(f"{mark:<8} {check.group:<8} {check.name:<15} {check.detail}")
        if check.status == "failed":
            say(f"{'':<8} {'':<8} {'':<15} checks: {check.checks}")
    if tested.failed:
        raise GateError(
            f"checks failed: {', '.join(tested.failed)}",
            where=device,
            state="nothing was installed or changed on the board",
            next="see docs/targets.md",
        )
    return 0


@devices.command()
@click.argument("kinds", metavar="KIND...", nargs=-1, required=True, type=click.Choice(VIRTUAL_KINDS))
def prepare(kinds: tuple[str, ...]) -> None:
    """Download and build what virtual boards need.

    Without it, the first run on a board of a kind does that, which takes up to half a minute and needs the network.
    """
    from edgepack.pipeline.device import prepare_boards

    with progress() as listener:
        prepare_boards(kinds, listener)
    say(f"ready: {', '.join(kinds)}")


@devices.command()
@options.device_argument
def trust(device: str) -> None:
    """Add a device's host key to known_hosts.

    Shows the fingerprint of the key: compare it with the board's own.
    """
    say(f"{device}: trusted {api.trust(device)}")


_FAULTS = "\n".join(f"  {name:<18}  {text}" for name, text in FAULTS.items())
_UP = f"""Start a virtual board.

A virtual board is a real sshd. All kinds but host and host-gpu have an emulated CPU and a userland of their own;
jetson-orin, jetson-thor and host-gpu have an emulated GPU. Order and fault last until the board is stopped.

\b
Faults:
{_FAULTS}
"""


@devices.command(help=_UP)
@click.option("--virtual", "kind", required=True, type=click.Choice(VIRTUAL_KINDS), help="Kind of board.")
@click.option("--name", help="Name of the board [default: its kind].")
@click.option(
    "--order",
    metavar="forward|reverse|random:SEED",
    help="Order of the emulated GPU's threads and blocks; a kernel whose result depends on it fails [default: forward].",
)
@click.option(
    "--fault", type=click.Choice(tuple(FAULTS)), help="What is wrong with a board that has a GPU (see below)."
)
def up(kind: str, name: str | None, order: str | None, fault: str | None) -> None:
    """Start a virtual board."""
    board = api.board_up(kind, name, order=order, fault=fault)
    say(f"{board.name} is up on {board.device.host}:{board.device.port}", err=True)
    say(board.name)


@devices.command()
@click.argument("name", required=False, shell_complete=options.complete_running)
@click.option("--all", "everything", is_flag=True, help="Stop all running virtual boards.")
@click.option("--purge", is_flag=True, help="Also delete the board's files.")
def down(name: str | None, everything: bool, purge: bool) -> None:
    """Stop a virtual board."""
    for stopped in api.boards_down(name, everything=everything, purge=purge):
        say(f"{stopped} is down", err=True)
