"""`hotpath config`: what the service would run with, and who said so."""

import json
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import click
from pydantic import SecretStr
from rich.table import Table

from hotpath.cli.configfile import config_option, read_file
from hotpath.cli.options import json_option
from hotpath.cli.output import stdout_console
from hotpath.cli.settings_options import (
    given_flags,
    in_environment,
    read_settings,
    settings_options,
    show,
)
from hotpath.config import Settings


@click.command("config", context_settings={"max_content_width": 100})
@config_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, *, as_json: bool, **values: object) -> None:
    """Show the effective settings and where each comes from.

    Takes the options of `hotpath serve`, so that a command line can be looked at before it is run.
    Secrets are hidden.
    """
    flags = given_flags(values)
    config: Path | None = ctx.meta.get("hotpath.config")
    settings = read_settings(flags, config)
    in_file = set(read_file(config)) if config else set()
    rows = [
        (name, getattr(settings, name), _origin(name, flags, in_file))
        for name in Settings.model_fields
    ]
    if as_json:
        for name, value, origin in rows:
            click.echo(json.dumps({"name": name, "value": _json_value(value), "origin": origin}))
        return
    _print_table([(name, _hide_login(show(value)), origin) for name, value, origin in rows])


command.params += settings_options()


def _origin(name: str, flags: dict[str, object], in_file: set[str]) -> str:
    if name in flags:
        return "flag"
    if in_environment(name):
        return "env"
    return "file" if name in in_file else "default"


def _json_value(value: object) -> object:
    if value is None or type(value) in (bool, int, float):
        return value
    if isinstance(value, tuple):
        return [_json_value(each) for each in value]
    return show(value) if isinstance(value, SecretStr) else _hide_login(str(value))


def _hide_login(text: str) -> str:
    """A URL without the password that may stand in it."""
    if "://" not in text or "@" not in text:
        return text
    parts = urlsplit(text)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"***@{host}"))


def _print_table(rows: list[tuple[str, str, str]]) -> None:
    table = Table("setting", "value", "from", box=None, pad_edge=False)
    for name, text, origin in rows:
        style = "" if origin == "default" else "bold"
        table.add_row(name, text, origin, style=style)
    stdout_console().print(table, soft_wrap=True)
