"""`hotpath token`: a JWT from the development key, so that nobody needs an identity provider."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

import qel
from hotpath.auth.jwt import TokenRules, mint
from hotpath.auth.keys import load_development_key
from hotpath.cli.configfile import config_option
from hotpath.cli.options import data_dir_option, json_option, option
from hotpath.cli.running import Failure
from hotpath.cli.settings_options import read_settings
from hotpath.client.times import wall_ms


@click.command("token")
@config_option
@data_dir_option
@option(
    "--tenant",
    default="demo",
    show_default=True,
    help="Whose data.",
)
@option(
    "--scope",
    default="hotpath.subscribe hotpath.publish",
    show_default=True,
    help="What it allows, separated by blanks: hotpath.subscribe, hotpath.publish, hotpath.admin, "
    "each also for one topic only (hotpath.subscribe:variables).",
)
@option(
    "--sub",
    default="developer",
    show_default=True,
    help="Who calls.",
)
@option("--partitions", metavar="P,P", help="Granted partitions.")
@option(
    "--condition",
    metavar="QEL",
    help="A filter that is added (AND) to every filter of the caller.",
)
@option(
    "--minutes",
    type=float,
    default=60.0,
    show_default=True,
    help="Life in real minutes; negative for a token that has ended.",
)
@json_option
def command(  # one argument an option
    *,
    data_dir: Path,
    tenant: str,
    scope: str,
    sub: str,
    partitions: str | None,
    condition: str | None,
    minutes: float,
    as_json: bool,
) -> None:
    """Print a development token (JWT).

    It is signed with the development key of the data directory, which is made at the first use. A
    service with another source of keys does not accept it.
    """
    _check_condition(condition)
    if not tenant.strip():
        raise click.BadParameter("a tenant has a name", param_hint="--tenant")
    if not -5_000_000 <= minutes <= 5_000_000:
        raise click.BadParameter("at most 5,000,000 minutes", param_hint="--minutes")
    rules = TokenRules.of(read_settings({}))
    try:
        key = load_development_key(data_dir)
    except (OSError, ValueError) as error:
        raise Failure(f"no development key in {data_dir}: {error}") from None
    now_ms = wall_ms()
    text = mint(
        key,
        rules,
        tenant=tenant,
        scopes=scope.split(),
        subject=sub,
        now_ms=now_ms,
        minutes=minutes,
        partitions=[part.strip() for part in (partitions or "").split(",") if part.strip()],
        condition=condition,
    )
    if not as_json:
        click.echo(text)
        return
    end = datetime.fromtimestamp(now_ms / 1000 + minutes * 60, UTC)
    click.echo(json.dumps({"token": text, "expiresAt": end.isoformat(timespec="seconds")}))


def _check_condition(condition: str | None) -> None:
    if condition is None:
        return
    try:
        qel.parse(condition)
    except qel.QelError as error:
        raise click.BadParameter(str(error), param_hint="--condition") from None
