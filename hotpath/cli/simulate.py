"""`hotpath simulate`: publishes what a plant would, as it would."""

import asyncio
from collections import Counter
from collections.abc import Callable

import click

from hotpath.cli.configfile import config_option
from hotpath.cli.options import Target, json_option, option, target_options
from hotpath.cli.output import stderr_console, to_line, wants_json
from hotpath.cli.running import run, until_signalled
from hotpath.client.message import encode_message
from hotpath.client.publisher import Publisher
from hotpath.client.times import wall_iso, wall_ms
from hotpath.model.names import SUBSCRIBABLE, Topic
from hotpath.simulate import Emission, Plant


@click.command("simulate")
@config_option
@option(
    "--rate",
    type=click.FloatRange(min=0.01, max=100_000),
    default=50.0,
    show_default=True,
    help="Messages a second.",
)
@option(
    "--objects",
    type=click.IntRange(min=1, max=100_000),
    default=20,
    show_default=True,
    help="Machines in the plant.",
)
@option("--seed", type=int, default=1, show_default=True, help="The same seed, the same plant.")
@option("--seconds", type=click.FloatRange(min=0), help="End after so long; without it, never.")
@option(
    "--speed",
    type=click.FloatRange(min=0.01, max=100_000),
    default=60.0,
    show_default=True,
    help="How much faster than life things warm up, drift and break.",
)
@target_options
@json_option
def command(
    *,
    rate: float,
    objects: int,
    seed: int,
    seconds: float | None,
    speed: float,
    target: Target,
    as_json: bool,
) -> None:
    """Publish variables, events, alarms and platform events of a plant that looks real.

    Pumps, tanks, compressors, conveyors and boilers drift, fail, raise alarms and trip; operators
    log in; object models are created, edited and deleted. Ends with Ctrl-C, SIGTERM or --seconds.
    """
    plant = Plant(seed=seed, objects=objects, rate=rate, start_ms=wall_ms(), speed=speed)
    counts: Counter[Topic] = Counter()

    async def job() -> None:
        async with (
            target.rest() as rest,
            Publisher(rest, *SUBSCRIBABLE, tls=target.tls) as publisher,
        ):
            publisher.on_accepted = lambda topic, _: counts.update((topic,))
            with Reporter(counts, as_json=wants_json(as_json)) as reporter:
                await until_signalled(pace(plant, publisher, seconds=seconds, each=reporter.saw))
            async with asyncio.timeout(10):
                await publisher.flush()

    run(job())
    total = {topic.value: counts[topic] for topic in SUBSCRIBABLE}
    if wants_json(as_json):
        click.echo(to_line({"published": total}))
    else:
        click.echo("published " + ", ".join(f"{n:,} {name}" for name, n in total.items()))


async def pace(
    plant: Plant,
    publisher: Publisher,
    *,
    seconds: float | None = None,
    each: Callable[[Emission], None] = lambda _: None,
) -> None:
    """Publish the plant's messages when they are due by the wall clock.

    `each` sees a message before it goes out. What is late goes out at once: no message is left
    out. Raises as `Publisher.put`.
    """
    loop = asyncio.get_running_loop()
    begun: float | None = None
    first_ms = 0.0
    for emission in plant.messages():
        if begun is None:
            begun, first_ms = loop.time(), emission.at_ms
        due_s = (emission.at_ms - first_ms) / 1000
        if seconds is not None and due_s >= seconds:
            break
        wait_s = begun + due_s - loop.time()
        # Timers are no finer than a millisecond or so; what is due within one goes out together.
        if wait_s > 0.002:
            await asyncio.sleep(wait_s)
        each(emission)
        encoded = encode_message(emission.topic, emission.message, now=wall_iso)
        await publisher.put(emission.topic, encoded)


class Reporter:
    """One line a second about what was accepted so far, while a terminal looks on."""

    def __init__(self, counts: Counter[Topic], *, as_json: bool) -> None:
        self._counts = counts
        self._status = None if as_json else stderr_console().status("publishing")
        self._seen = 0

    def __enter__(self) -> "Reporter":
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def saw(self, emission: Emission) -> None:
        """A message goes out; every 25th changes the line."""
        self._seen += 1
        if self._status is not None and self._seen % 25 == 1:
            shown = "  ".join(f"{topic.value} {self._counts[topic]:,}" for topic in SUBSCRIBABLE)
            self._status.update(f"{shown}  [dim]{emission.message.get('objectId', '')}[/dim]")
