"""`hotpath keys`: the signing keys of a running service."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import click
from rich.table import Table

from hotpath.cli.configfile import config_option
from hotpath.cli.options import Target, json_option, option, target_options
from hotpath.cli.output import clean, notice, stdout_console, to_line, wants_json
from hotpath.cli.running import run
from hotpath.client.rest import RestClient

_ResultT = TypeVar("_ResultT")

_COLUMNS = ("name", "tenant", "createdAt", "retiredAt", "signs")


@click.group("keys")
def command() -> None:
    """Rotate the keys that sign the tokens of feeds. Needs a token with hotpath.admin.

    Without downtime: `add` makes a key that signs from then on; tokens of the older ones stay
    valid until they end or their key is retired; `remove` forgets a retired key.
    """


@command.command("list")
@config_option
@target_options
@json_option
def list_command(*, target: Target, as_json: bool) -> None:
    """List the keys, oldest first; secrets are not shown."""
    found = run(_call(target, lambda rest: rest.keys()))
    if wants_json(as_json):
        for each in found:
            click.echo(to_line(each))
        return
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for each in found:
        table.add_row(*(_shown(each.get(name)) for name in _COLUMNS))
    stdout_console().print(table)


@command.command("add")
@config_option
@click.argument("name", required=False)
@option("--for-tenant", metavar="TENANT", help="Make a key for a tenant's clients.")
@target_options
@json_option
def add_command(*, name: str | None, for_tenant: str | None, target: Target, as_json: bool) -> None:
    """Make a key. The service's own signs from now on; a tenant's is shown this once."""
    made = run(_call(target, lambda rest: rest.add_key(name, for_tenant)))
    if as_json:
        click.echo(to_line(made))
        return
    if made.get("secret") is None:
        click.echo(f"added {made.get('name')}; it signs from now on")
        return
    click.echo(f"name   {clean(made.get('name'))}")
    click.echo(f"secret {made.get('secret')}")
    notice("the secret is not shown again")


@command.command("retire")
@config_option
@click.argument("name")
@target_options
@json_option
def retire_command(*, name: str, target: Target, as_json: bool) -> None:
    """Let a key count no longer: its tokens are refused, their links detached."""
    run(_call(target, lambda rest: rest.retire_key(name)))
    click.echo(to_line({"retired": name}) if as_json else f"retired {clean(name)}")


@command.command("remove")
@config_option
@click.argument("name")
@target_options
@json_option
def remove_command(*, name: str, target: Target, as_json: bool) -> None:
    """Forget a retired key and its secret."""
    run(_call(target, lambda rest: rest.remove_key(name)))
    click.echo(to_line({"removed": name}) if as_json else f"removed {clean(name)}")


async def _call(target: Target, work: Callable[[RestClient], Awaitable[_ResultT]]) -> _ResultT:
    async with target.rest() as rest:
        return await work(rest)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return "" if value is None else clean(value)
