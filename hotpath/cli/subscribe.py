"""`hotpath subscribe`: a feed from its creation to its end, printed as it comes."""

import contextlib
import os
import sys

import click

from hotpath.cli.configfile import config_option
from hotpath.cli.options import Target, json_option, option, target_options, topic_argument
from hotpath.cli.output import message_text, notice, stdout_console, to_line, wants_json
from hotpath.cli.running import Failure, explain, run, until_signalled
from hotpath.client.errors import ClientError, Gone
from hotpath.client.feed import Feed
from hotpath.client.message import FeedMessage, object_line
from hotpath.client.rest import RestClient
from hotpath.model.names import Topic
from hotpath.wire.values import WireError


@click.command("subscribe")
@config_option
@topic_argument
@option(
    "--filter",
    "filter_text",
    metavar="QEL",
    default="true",
    help="Which messages, for example \"variable = 'temperature' AND value > 80\"; all without it.",
)
@option("--count", type=click.IntRange(min=1), help="End after N messages.")
@option(
    "--start-from",
    help="now, earliest, or an ISO time from which stored messages come first.",
)
@option(
    "--ttl",
    type=float,
    default=60.0,
    show_default=True,
    help="Idle time in minutes after which the service deletes the subscription by itself.",
)
@option(
    "--token-ttl",
    type=float,
    default=15.0,
    show_default=True,
    help="Life of the feed's token in minutes; it is renewed in time.",
)
@option(
    "--meta",
    is_flag=True,
    help="With JSON lines: the sequence number, time and properties around each message.",
)
@target_options
@json_option
def command(
    *,
    topic: Topic,
    filter_text: str,
    count: int | None,
    start_from: str | None,
    ttl: float,
    token_ttl: float,
    meta: bool,
    target: Target,
    as_json: bool,
) -> None:
    """Create a subscription, print its messages, delete it on exit.

    TYPE is variables, events, alarms or platformEvents. Ends with Ctrl-C, SIGTERM or --count. The
    token is renewed by itself, and the feed comes back after a restart of the service. Messages are
    text on a terminal and JSON lines otherwise.
    """
    printer = Printer(topic, as_json=wants_json(as_json), meta=meta)

    async def job() -> None:
        async with target.rest() as rest:
            access = await rest.create(
                topic, filter_text, ttl=ttl, sas_ttl=token_ttl, start_from=start_from
            )
            feed = Feed(rest, topic, access, tls=target.tls, count=count)
            feed.session.on_cut = lambda why: notice(f"cut: {why}; coming back")
            if not printer.as_json:
                notice(f"subscription {access.identity}, Ctrl-C ends it")
            await until_signalled(_read(feed, printer, rest, topic=topic))

    run(job())


async def _read(feed: Feed, printer: "Printer", rest: RestClient, *, topic: Topic) -> None:
    """Print until the end, then delete the subscription whatever the end was."""
    gone = False
    try:
        await feed.start()
        async with contextlib.aclosing(feed.deliveries()) as deliveries:
            async for delivery in deliveries:
                printer.show(delivery.encoded)
    except Gone as error:
        gone = True
        raise Failure(f"the subscription was deleted: {error}") from error
    except BrokenPipeError:
        # Whoever read our output has enough, as with `| head`; nobody is left to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        await feed.close()
        if not gone:
            await _delete(rest, topic, feed.identity)


async def _delete(rest: RestClient, topic: Topic, identity: str) -> None:
    try:
        await rest.delete(topic.value, identity)
    except ClientError as error:
        raise Failure(
            f"the subscription {identity} could not be deleted and ends when idle: {explain(error)}"
        ) from error


class Printer:
    """Writes each message to stdout at once."""

    def __init__(self, topic: Topic, *, as_json: bool, meta: bool = False) -> None:
        self.as_json = as_json
        self._topic = topic
        self._meta = meta

    def show(self, encoded: bytes) -> None:
        """Print a delivered message; one that cannot be read is named on stderr."""
        line = object_line(encoded) if self.as_json and not self._meta else None
        if line is not None:
            self._write(line)
            return
        try:
            message = FeedMessage.decode(encoded)
        except WireError as error:
            notice(f"a message could not be read: {error}")
            return
        if self.as_json:
            shown = message.to_envelope() if self._meta else message.to_object()
            self._write(to_line(shown))
        else:
            stdout_console().print(message_text(self._topic, message))

    def _write(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
