"""Commands about devices: the user's boards, and virtual ones."""

import click

from edgepack import api
from edgepack.cli import options
from edgepack.cli.console import emit_json
from edgepack.config.device import VIRTUAL_KINDS


@click.group()
def devices() -> None:
    """The boards of devices.yaml, and virtual boards to try things on."""


@devices.command("list")
@options.json_option
def list_(as_json: bool) -> None:
    """List the devices of devices.yaml and the running virtual boards."""
    found = api.devices()
    if as_json:
        emit_json({"edgepack": 1, "devices": [d.to_json() for d in found]})
        return
    if not found:
        click.echo(
            "no devices yet: write devices.yaml (docs/add-a-device.md), or `edgepack devices up --virtual rpi4`",
            err=True,
        )
    for d in found:
        where = f"{d.device.user + '@' if d.device.user else ''}{d.device.host}" + (
            f":{d.device.port}" if d.device.port else ""
        )
        click.echo(
            f"{d.name:<20} {d.device.target:<14} {where}{'  virtual' if d.virtual else ''}{'  emulated' if d.device.emulated else ''}"
        )


@devices.command()
@options.complete_device
@options.json_option
def info(device: str, as_json: bool) -> None:
    """Probe a device: what it is, its libc, memory, clocks, and which releases it holds."""
    probe = api.device_info(device)
    if as_json:
        emit_json({"edgepack": 1, **probe})
        return
    for key, value in probe.items():
        click.echo(f"{key:<18} {value}")


@devices.command()
@options.complete_device
def trust(device: str) -> None:
    """Fetch the device's host key, show its fingerprint and add it to known_hosts."""
    click.echo(f"{device}: trusted {api.trust(device)}")


@devices.command()
@click.option("--virtual", "kind", required=True, type=click.Choice(VIRTUAL_KINDS))
@click.option("--name", help="Default: the kind's name.")
def up(kind: str, name: str | None) -> None:
    """Start a virtual board: a real sshd, with an emulated CPU and userland for every kind but host."""
    board = api.board_up(kind, name)
    click.echo(f"{board.name} is up on {board.device.host}:{board.device.port}", err=True)
    click.echo(board.name)


@devices.command()
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="All running virtual boards.")
@click.option("--purge", is_flag=True, help="Forget the board's files too.")
def down(name: str | None, everything: bool, purge: bool) -> None:
    """Stop a virtual board and clean up after it."""
    for stopped in api.boards_down(name, everything=everything, purge=purge):
        click.echo(f"{stopped} is down", err=True)
