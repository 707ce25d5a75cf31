"""`hotpath publish`: JSON from a file or a pipe, out over AMQP."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import perf_counter

import click

from hotpath.cli.configfile import config_option
from hotpath.cli.documents import BadInput, Document, read_documents
from hotpath.cli.options import Target, json_option, target_options, topic_argument
from hotpath.cli.output import to_line
from hotpath.cli.progress import PublishProgress
from hotpath.cli.running import Failure, explain, run, until_signalled
from hotpath.client.errors import ClientError, MessageRefused
from hotpath.client.message import BadMessage, encode_message
from hotpath.client.publisher import Publisher
from hotpath.client.times import wall_iso
from hotpath.model.names import Topic


@click.command("publish")
@config_option
@topic_argument
@click.argument("source", metavar="[FILE]", default="-", type=click.Path(path_type=Path))
@target_options
@json_option
def command(*, topic: Topic, source: Path, target: Target, as_json: bool) -> None:
    """Publish a JSON object, a JSON array or NDJSON from FILE, or from stdin for "-".

    TYPE is variables, events, alarms or platformEvents. A message without a time gets the present
    one. Done means that the service has accepted every message; at a bad one the command ends with
    the number of its line, and what stands before it has been accepted.
    """
    with _opened(source) as descriptor:
        run(_publish(topic, descriptor, target, as_json=as_json))


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[int]:
    if str(source) == "-":
        yield sys.stdin.fileno()
        return
    try:
        descriptor = os.open(source, os.O_RDONLY)
    except OSError as error:
        raise Failure(f"cannot read {source}: {error.strerror}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Run:
    """One publishing: how far it is, and what ended it."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.accepted = 0
        self.complaint: str | None = None
        self.started = perf_counter()

    def summary(self) -> dict[str, object]:
        """What came of it."""
        seconds = max(perf_counter() - self.started, 1e-6)
        return {
            "accepted": self.accepted,
            "seconds": round(seconds, 3),
            "perSecond": round(self.accepted / seconds),
        }


async def _publish(topic: Topic, descriptor: int, target: Target, *, as_json: bool) -> None:
    current = Run(topic)
    size = os.fstat(descriptor).st_size
    progress = PublishProgress(size if size > 0 else None)
    async with target.rest() as rest, Publisher(rest, topic, tls=target.tls) as publisher:
        publisher.on_accepted = lambda _topic, _reference: _count(current)

        async def job() -> None:
            documents = read_documents(descriptor, on_bytes=progress.read)
            await _put_all(documents, publisher, current)

        with progress.shown(lambda: current.accepted):
            signalled = await until_signalled(job())
        if signalled:
            with contextlib.suppress(ClientError, TimeoutError):
                async with asyncio.timeout(5):
                    await publisher.flush()
            current.complaint = current.complaint or "interrupted"
    _report(current, as_json=as_json)


def _count(current: Run) -> None:
    current.accepted += 1


async def _put_all(documents: AsyncIterator[Document], publisher: Publisher, current: Run) -> None:
    """Publish until the end or the first bad one; then wait for the outcomes."""
    number = 0
    try:
        async for number, value, text in documents:
            encoded = encode_message(current.topic, value, now=wall_iso, text=text)
            await publisher.put(current.topic, encoded, number)
    except BadInput as error:
        current.complaint = str(error)
    except BadMessage as error:
        current.complaint = f"line {number}: {error}"
    except MessageRefused as error:
        current.complaint = f"line {error.reference}: {error}"
        return
    try:
        await publisher.flush()
    except MessageRefused as error:
        current.complaint = f"line {error.reference}: {error}"
    except ClientError as error:
        current.complaint = explain(error)


def _report(current: Run, *, as_json: bool) -> None:
    summary = current.summary()
    if as_json:
        click.echo(to_line(summary))
    elif current.complaint is None:
        click.echo(
            f"{current.accepted:,} messages accepted in {summary['seconds']} s "
            f"({summary['perSecond']:,} a second)"
        )
    if current.complaint is not None:
        raise Failure(f"{current.complaint}\n{current.accepted:,} messages were accepted")
