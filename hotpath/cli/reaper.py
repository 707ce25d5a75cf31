"""`hotpath reaper`: deletes idle subscriptions from outside, for a service run with --no-reap."""

import asyncio
from datetime import datetime
from typing import Final

import click

from hotpath.cli.configfile import config_option
from hotpath.cli.options import Target, json_option, option, target_options
from hotpath.cli.output import notice, to_line
from hotpath.cli.running import run, until_signalled
from hotpath.client.errors import Refused, Unreachable
from hotpath.client.rest import RestClient
from hotpath.client.times import wall_ms

#: Shortest and longest sleep, seconds: subscriptions may be created while it sleeps.
SLEEP_MIN: Final = 0.5
SLEEP_MAX: Final = 30.0


@click.command("reaper")
@config_option
@option("--once", is_flag=True, help="Look once and end.")
@target_options
@json_option
def command(*, once: bool, target: Target, as_json: bool) -> None:
    """Delete idle subscriptions of a service that runs with --no-reap.

    Needs a token with hotpath.admin. Sleeps until the next subscription can be over, 30 seconds
    at most; goes on trying while the service is down. Ends with Ctrl-C or SIGTERM.
    """

    async def job() -> None:
        async with target.rest() as rest:
            if once:
                _report(await rest.reap(), as_json=as_json)
            else:
                await until_signalled(_watch(rest, as_json=as_json))

    run(job())


async def _watch(rest: RestClient, *, as_json: bool) -> None:
    reached = False
    while True:
        wait_s = SLEEP_MAX
        try:
            answer = await rest.reap()
            reached = True
            if answer.get("reaped"):
                _report(answer, as_json=as_json)
            wait_s = sleep_seconds(answer.get("nextAt"), now_ms=wall_ms())
        except Unreachable as error:
            if not reached:
                raise
            notice(f"{error}; trying again")
        except Refused as error:
            if error.status < 500 and error.status != 429:
                raise
            notice(f"{error}; trying again")
        await asyncio.sleep(wait_s)


def sleep_seconds(next_at: object, *, now_ms: int) -> float:
    """How long to sleep when the service names the next time, an ISO text or null."""
    try:
        next_ms = datetime.fromisoformat(str(next_at)).timestamp() * 1000
    except ValueError:
        return SLEEP_MAX
    return min(max((next_ms - now_ms) / 1000, SLEEP_MIN), SLEEP_MAX)


def _report(answer: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        click.echo(to_line(answer))
    else:
        click.echo(f"deleted {answer.get('reaped', 0)} idle subscriptions")
