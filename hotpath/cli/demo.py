"""`hotpath demo`: the whole way of a message, shown live.

Starts a real service in a temporary directory, lets a plant publish over AMQP, opens four feeds
over REST, reads them over AMQP, and compares what came with what should have come. The check is
independent of the service: each feed has a plain Python predicate beside its QEL text.
"""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Final

import click
from rich.live import Live

from hotpath.cli.child import Service
from hotpath.cli.configfile import config_option
from hotpath.cli.demo_feeds import FEEDS, Board, FeedSpec, Watched, read_feed
from hotpath.cli.demo_view import LiveView, final_table, progress_line, summary_lines
from hotpath.cli.options import Target, minting, option
from hotpath.cli.output import stdout_console
from hotpath.cli.running import Failure, run, until_signalled
from hotpath.cli.simulate import pace
from hotpath.client.errors import ClientError
from hotpath.client.feed import Feed
from hotpath.client.publisher import Publisher
from hotpath.client.rest import RestClient
from hotpath.client.times import wall_ms
from hotpath.model.names import SUBSCRIBABLE
from hotpath.simulate import Plant

#: Part of the demo after which the feeds' tokens would end if nobody renewed them.
TOKEN_PART: Final = 0.6
#: Life of a feed's token in API minutes; the shortest there is.
TOKEN_MINUTES: Final = 5.0
#: Time for the last messages to come through.
SETTLE_SECONDS: Final = 10.0
#: Seconds between two lines where there is no terminal.
LINE_SECONDS: Final = 2.0
#: Seconds between two pictures on a terminal.
FRAME_SECONDS: Final = 0.15


@click.command("demo")
@config_option
@click.option(
    "--seconds",
    type=click.FloatRange(min=3, max=500),
    default=20.0,
    show_default=True,
    envvar="HOTPATH_DEMO_SECONDS",
    show_envvar=True,
    help="How long the plant works.",
)
@option(
    "--rate",
    type=click.FloatRange(min=1, max=2_000),
    default=400.0,
    show_default=True,
    help="Messages a second.",
)
@option("--seed", type=int, default=7, show_default=True, help="The same seed, the same plant.")
def command(*, seconds: float, rate: float, seed: int) -> None:
    """Show the whole way of a message: plant, service, filters, feeds.

    Ends with a summary; exit code 1 if a feed got anything but exactly its messages.
    """
    board = Board(seconds=seconds)
    plant = Plant(seed=seed, objects=25, rate=rate, start_ms=wall_ms(), speed=120)

    async def job() -> bool:
        return await until_signalled(_show(board, plant))

    if run(job()):
        raise Failure("interrupted")
    if not board.all_agree:
        raise Failure("a feed did not get exactly its messages")


async def _show(board: Board, plant: Plant) -> None:
    with tempfile.TemporaryDirectory(prefix="hotpath-demo-") as directory:
        data_dir = Path(directory)
        # An API minute is short here, so that the tokens' lives can be watched.
        minute = board.seconds * TOKEN_PART / TOKEN_MINUTES
        async with Service(data_dir, minute=minute) as service:
            async with _display(board):
                board.say(f"service up: REST {service.urls['http']}, AMQP {service.urls['amqp']}")
                target = Target(service.urls["http"], minting(data_dir, "demo"), None)
                async with target.rest() as rest:
                    await _work(board, plant, rest)
            code = await service.stop()
    _summarise(board, f"service stopped with exit code {code}")
    if code != 0:
        raise Failure(f"the service ended with exit code {code}")


async def _work(board: Board, plant: Plant, rest: RestClient) -> None:
    """Open the feeds, publish, wait for the rest to arrive, close everything."""
    async with contextlib.AsyncExitStack() as stack:
        for spec in FEEDS:
            board.feeds.append(await stack.enter_async_context(_open_feed(board, rest, spec)))
        publisher = await stack.enter_async_context(Publisher(rest, *SUBSCRIBABLE))
        publisher.on_accepted = lambda topic, _: board.accepted.update((topic,))
        board.say("all feeds are open; the plant begins to work")
        board.begin()
        await pace(plant, publisher, seconds=board.seconds, each=board.publish)
        await publisher.flush()
        board.say("the plant rests; waiting for the last messages")
        await board.until_complete(SETTLE_SECONDS)
    board.say("subscriptions deleted")


@contextlib.asynccontextmanager
async def _open_feed(board: Board, rest: RestClient, spec: FeedSpec) -> AsyncIterator[Watched]:
    """A subscription with its reader, deleted in the end."""
    access = await rest.create(
        spec.topic, spec.filter, ttl=10 * TOKEN_MINUTES, sas_ttl=TOKEN_MINUTES
    )
    watched = Watched(spec, Feed(rest, spec.topic, access))
    watched.feed.on_renewed = lambda: board.say(f"token renewed in time: {spec.title}")
    try:
        await watched.feed.start()
        board.say(f"subscription {access.identity}: {spec.topic.value}, {spec.filter}")
        async with _beside(_read(watched)):
            yield watched
    finally:
        await watched.feed.close()
        await rest.delete(spec.topic.value, access.identity)


async def _read(watched: Watched) -> None:
    try:
        await read_feed(watched)
    except ClientError as error:
        watched.failure = str(error)


@contextlib.asynccontextmanager
async def _display(board: Board) -> AsyncIterator[None]:
    """The live board on a terminal; elsewhere a line now and then."""
    console = stdout_console()
    if not console.is_terminal:
        board.on_note = _print
        async with _beside(_print_progress(board)):
            yield
        return
    # Drawn by a task of this loop and not by a thread, which would see lists while they change.
    with Live(LiveView(board), console=console, auto_refresh=False, transient=True) as live:
        async with _beside(_redraw(live)):
            yield


@contextlib.asynccontextmanager
async def _beside(job: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run something until the context ends."""
    task = asyncio.create_task(job)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _redraw(live: Live) -> None:
    while True:
        live.refresh()
        await asyncio.sleep(FRAME_SECONDS)


async def _print_progress(board: Board) -> None:
    while True:
        await asyncio.sleep(LINE_SECONDS)
        if board.published:
            _print(progress_line(board))


def _summarise(board: Board, verdict: str) -> None:
    console = stdout_console()
    if console.is_terminal:
        console.print(final_table(board))
        console.print(verdict)
        return
    for line in [*summary_lines(board), verdict]:
        _print(line)


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
