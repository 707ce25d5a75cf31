"""`hotpath webhook-sink`: receives webhooks and shows them."""

import asyncio
import functools
import random
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
from rich.text import Text

from hotpath.cli.configfile import config_option
from hotpath.cli.options import json_option, option
from hotpath.cli.output import clean, stdout_console, to_line, wants_json
from hotpath.cli.running import Failure, run, until_signalled
from hotpath.cli.sink_server import Behaviour, Received, Sink
from hotpath.config import Endpoint
from hotpath.webhooks.signing import BadSecret, SigningSecret

_STATUS = click.IntRange(min=200, max=599)


def _read_endpoint(_ctx: click.Context, _param: click.Parameter, value: str) -> Endpoint:
    try:
        return Endpoint(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_BEHAVIOUR: Final = (
    option("--status", type=_STATUS, default=200, show_default=True, help="Answer of successes."),
    option(
        "--fail-status", type=_STATUS, default=500, show_default=True, help="Answer of failures."
    ),
    option("--fail-percent", type=click.FloatRange(0, 100), default=0.0, help="Fail so many."),
    option("--fail-first", type=click.IntRange(min=0), default=0, help="Fail the first N."),
    option(
        "--fail-attempts",
        type=click.IntRange(min=0),
        default=0,
        help="Fail the first N attempts of each event.",
    ),
    option("--gone", is_flag=True, help="Answer 410: no more, please."),
    option("--retry-after", metavar="TEXT", help="Send it as Retry-After with every failure."),
    option("--delay", type=click.FloatRange(0, 3600), default=0.0, help="Seconds before answers."),
)


def behaviour_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say how to answer; the command gets `behaviour`."""

    @functools.wraps(command)
    def with_behaviour(*, gone: bool, delay: float, status: int, **values: object) -> None:
        told = {
            name: values.pop(name)
            for name in (
                "fail_status",
                "fail_percent",
                "fail_first",
                "fail_attempts",
                "retry_after",
            )
        }
        behaviour = Behaviour(
            status=410 if gone else status,
            delay_seconds=delay,
            **told,  # type: ignore[arg-type]  # click has checked them
        )
        command(behaviour=behaviour, **values)

    for each in reversed(_BEHAVIOUR):
        with_behaviour = each(with_behaviour)
    return with_behaviour


@click.command("webhook-sink")
@config_option
@option(
    "--listen",
    callback=_read_endpoint,
    metavar="HOST:PORT",
    default="127.0.0.1:9000",
    show_default=True,
    help="Where to listen; port 0 picks a free one.",
)
@option(
    "--webhook-secret",
    "secrets",
    multiple=True,
    metavar="SECRET",
    help="Verify signatures with it; what does not verify is answered 401. Several: any of them.",
)
@behaviour_options
@option("--seed", type=int, help="The same seed, the same failures.")
@option("--sink-cert", type=click.Path(path_type=Path), help="PEM file: serve https with it.")
@option("--sink-key", type=click.Path(path_type=Path), help="PEM file: its private key.")
@option("--count", type=click.IntRange(min=1), help="End after N requests that succeeded.")
@json_option
def command(
    *,
    listen: Endpoint,
    secrets: tuple[str, ...],
    behaviour: Behaviour,
    seed: int | None,
    sink_cert: Path | None,
    sink_key: Path | None,
    count: int | None,
    as_json: bool,
) -> None:
    """Receive webhooks: verify their signatures, print them, and misbehave when told to.

    The service must let it in: serve --webhook-allow-http --webhook-allow-networks 127.0.0.0/8.
    """
    keys = [_read_secret(text) for text in secrets]
    tls = _server_tls(sink_cert, sink_key)
    show = _Show(as_json=wants_json(as_json), count=count)
    draw = random.Random(seed)  # noqa: S311 - chooses which requests fail
    sink = Sink(keys, behaviour, each=show, draw=draw)
    run(_serve(sink, listen, show, tls=tls))


def _read_secret(text: str) -> SigningSecret:
    try:
        return SigningSecret.of(text)
    except BadSecret as error:
        raise click.BadParameter(str(error), param_hint="--webhook-secret") from None


def _server_tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Raises click.UsageError, click.BadParameter."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise click.UsageError("--sink-cert and --sink-key belong together")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise click.BadParameter(f"{cert}: {error}", param_hint="--sink-cert") from None
    return context


async def _serve(
    sink: Sink, listen: Endpoint, show: "_Show", *, tls: ssl.SSLContext | None
) -> None:
    try:
        port = await sink.start(listen.host, listen.port, tls=tls)
    except OSError as error:
        raise Failure(f"cannot listen on {listen}: {error.strerror or error}") from None
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    show.listening(f"{'http' if tls is None else 'https'}://{host}:{port}/")
    try:
        await until_signalled(show.enough())
    finally:
        await sink.stop()


class _Show:
    """Prints each request, and knows when there were enough."""

    def __init__(self, *, as_json: bool, count: int | None) -> None:
        self._as_json = as_json
        self._left = count
        self._enough = asyncio.Event()

    async def enough(self) -> None:
        """Wait until as many have succeeded as were asked for; without a number, for ever."""
        await self._enough.wait()
        # Let the last answer go out.
        await asyncio.sleep(0.05)

    def listening(self, url: str) -> None:
        """Say where."""
        if self._as_json:
            click.echo(to_line({"event": "ready", "url": url}))
        else:
            click.echo(f"receiving at {url}")

    def __call__(self, received: Received) -> None:
        """Print one."""
        if self._as_json:
            click.echo(to_line(received.to_object()))
        else:
            stdout_console().print(_line(received))
        if self._left is not None and 200 <= received.status < 300:
            self._left -= 1
            if self._left <= 0:
                self._enough.set()


def _line(received: Received) -> Text:
    """One request for people."""
    good = 200 <= received.status < 300
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{received.status} ", "green" if good else "red")
    event = received.event
    if isinstance(event, dict):
        line.append(f"{clean(event.get('lastUpdatedAt', '-'))}  ", "dim")
        line.append(f"{clean(event.get('id', '-'))} = ", "default")
        line.append(clean(event.get("value", "-")), "bold cyan")
        line.append("" if event.get("changed") else "  unchanged", "dim")
    else:
        line.append(clean(event))
    if received.attempt > 1:
        line.append(f"  attempt {received.attempt}", "yellow")
    if received.problem:
        line.append(f"  {clean(received.problem)}", "bold red")
    elif received.verified:
        line.append("  verified", "green")
    return line
