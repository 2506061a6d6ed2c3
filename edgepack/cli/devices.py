"""Commands for devices: boards and virtual boards."""

import click

from edgepack import api
from edgepack.cli import options
from edgepack.cli.console import emit_json
from edgepack.config.device import VIRTUAL_KINDS


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
        click.echo(
            "no devices: add one to devices.yaml (docs/add-a-device.md), or run `edgepack devices up --virtual rpi4`",
            err=True,
        )
    for d in listed:
        where = f"{d.device.user + '@' if d.device.user else ''}{d.device.host}" + (
            f":{d.device.port}" if d.device.port else ""
        )
        click.echo(
            f"{d.name:<20} {d.device.target:<14} {where}{'  virtual' if d.virtual else ''}{'  emulated' if d.device.emulated else ''}"
        )


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
    for key, value in probe.items():
        click.echo(f"{key:<18} {value}")


@devices.command()
@options.device_argument
def trust(device: str) -> None:
    """Add a device's host key to known_hosts.

    Shows the fingerprint of the key: compare it with the board's own.
    """
    click.echo(f"{device}: trusted {api.trust(device)}")


@devices.command()
@click.option("--virtual", "kind", required=True, type=click.Choice(VIRTUAL_KINDS), help="Kind of board.")
@click.option("--name", help="Name of the board [default: its kind].")
def up(kind: str, name: str | None) -> None:
    """Start a virtual board.

    A virtual board is a real sshd, with an emulated CPU and userland except for the kind host.
    """
    board = api.board_up(kind, name)
    click.echo(f"{board.name} is up on {board.device.host}:{board.device.port}", err=True)
    click.echo(board.name)


@devices.command()
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Stop all running virtual boards.")
@click.option("--purge", is_flag=True, help="Also delete the board's files.")
def down(name: str | None, everything: bool, purge: bool) -> None:
    """Stop a virtual board."""
    for stopped in api.boards_down(name, everything=everything, purge=purge):
        click.echo(f"{stopped} is down", err=True)
