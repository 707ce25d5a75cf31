"""`hotpath list` and `hotpath delete`: own subscriptions."""

import click
from rich.table import Table

from hotpath.cli.configfile import config_option
from hotpath.cli.options import Target, json_option, target_options
from hotpath.cli.output import clean, notice, stdout_console, to_line, wants_json
from hotpath.cli.running import Failure, run
from hotpath.client.errors import Refused

_COLUMNS = ("subscriptionId", "type", "filter", "backlog", "delivered", "deadLettered", "clients")


@click.command("list")
@config_option
@target_options
@json_option
def list_command(*, target: Target, as_json: bool) -> None:
    """List own subscriptions: filter, backlog, who reads, when they end."""
    found = run(_fetch(target))
    if wants_json(as_json):
        for each in found:
            click.echo(to_line(each))
        return
    if not found:
        notice("there are no subscriptions")
        return
    _print_table(found)


async def _fetch(target: Target) -> list[dict[str, object]]:
    async with target.rest() as rest:
        return await rest.list_all()


def _print_table(found: list[dict[str, object]]) -> None:
    table = Table(*_COLUMNS, "ends if idle", box=None, pad_edge=False)
    for each in found:
        cells = [clean(each.get(name, "")) for name in _COLUMNS]
        table.add_row(*cells, clean(each.get("expiresAt", "")))
    stdout_console().print(table)


@click.command("delete")
@config_option
@click.argument("identities", metavar="ID...", nargs=-1, required=True)
@target_options
@json_option
def delete_command(*, identities: tuple[str, ...], target: Target, as_json: bool) -> None:
    """Delete own subscriptions. Whoever reads them is detached."""
    for identity in run(_delete(target, identities)):
        click.echo(to_line({"deleted": identity}) if as_json else f"deleted {identity}")


async def _delete(target: Target, identities: tuple[str, ...]) -> list[str]:
    async with target.rest() as rest:
        types = {str(each["subscriptionId"]): str(each["type"]) for each in await rest.list_all()}
        unknown = [identity for identity in identities if identity not in types]
        if unknown:
            raise Failure(f"there is no subscription {', '.join(unknown)}; nothing was deleted")
        for identity in identities:
            try:
                await rest.delete(types[identity], identity)
            except Refused as error:
                raise Failure(f"{identity}: {error}") from error
        return list(identities)
