"""`hotpath migrate`: moves the data directory of a stopped service into a cluster."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hotpath.auth.sealing import SEALING_KEY_FILE
from hotpath.cli.configfile import config_option
from hotpath.cli.options import json_option
from hotpath.cli.output import to_line
from hotpath.cli.running import Failure, check_missing, run
from hotpath.cli.settings_options import given_flags, read_settings, settings_options
from hotpath.config import Settings
from hotpath.ports import LogFailure
from hotpath.storage.sqlite.connection import DATABASE_NAME

if TYPE_CHECKING:
    from hotpath.storage.jetstream.moving import Moved


@click.command("migrate", context_settings={"max_content_width": 100})
@config_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, *, as_json: bool, **values: object) -> None:
    """Move everything of a stopped service into a cluster that has nothing yet.

    Messages, subscriptions with their progress and dead letters, scheduled messages, publishers,
    streams with their points, and keys; then all of it is read back and compared. The data directory
    stays as it is. Start no node before this has ended well; when it has not, begin again with
    another --cluster-prefix.
    """
    settings = read_settings(given_flags(values), ctx.meta.get("hotpath.config"))
    if not settings.cluster_servers:
        raise click.UsageError("name the servers: --cluster nats://HOST:PORT,…")
    if not (settings.data_dir / DATABASE_NAME).is_file():
        raise Failure(f"--data-dir {settings.data_dir}: there is no {DATABASE_NAME} in it")
    run(_migrate(settings, as_json=as_json))


command.params += [
    each
    for each in settings_options()
    if (name := str(each.name)) == "data_dir" or name.removeprefix("no_").startswith("cluster")
]


async def _migrate(settings: Settings, *, as_json: bool) -> None:
    """Raises Failure."""
    try:
        # Only here: nobody without a cluster needs these libraries.
        moving = importlib.import_module("hotpath.storage.jetstream.moving")
    except ModuleNotFoundError as error:
        check_missing(error)
        raise

    def say(text: str) -> None:
        if not as_json:
            click.echo(text)

    try:
        moved: Moved = await moving.migrate(settings, said=say)
    except LogFailure as failure:
        raise Failure(f"not migrated: {failure.detail}") from failure
    _conclude(settings.data_dir, moved.as_document(), as_json=as_json)


def _conclude(data_dir: Path, moved: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        click.echo(to_line({"migrated": str(data_dir), **moved}))
        return
    click.echo("everything is in the cluster, and was compared")
    if (data_dir / SEALING_KEY_FILE).is_file():
        click.echo(
            f"give every node the key of webhook secrets: --webhook-secret-key-file with a copy of "
            f"{data_dir / SEALING_KEY_FILE}"
        )
