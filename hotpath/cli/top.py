"""`hotpath top`: topics and subscriptions of a tenant, live."""

import asyncio
import contextlib
import sys
from dataclasses import dataclass, field
from typing import Final, cast

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hotpath.cli.configfile import config_option
from hotpath.cli.options import Target, json_option, option, target_options
from hotpath.cli.output import clean, stdout_console, to_line
from hotpath.cli.running import explain, run, until_signalled
from hotpath.client.errors import ClientError
from hotpath.client.rest import RestClient

#: Subscriptions asked for; the others are counted in a line.
SHOWN_MAX: Final = 200
#: Columns of a terminal from which identifiers are shown whole.
WIDE: Final = 130

Json = dict[str, object]


@dataclass(slots=True)
class Sample:
    """What the service said at one time."""

    at_s: float
    """Monotonic."""
    who: Json
    topics: list[Json]
    subscriptions: list[Json]
    more: bool
    """There are subscriptions beyond those."""
    rates: dict[str, float] = field(default_factory=dict)
    """Deliveries a second since the sample before, by subscription."""

    def compare(self, before: "Sample | None") -> None:
        """Work out rates since an earlier sample."""
        if before is None or self.at_s <= before.at_s:
            return
        earlier = {
            str(each["subscriptionId"]): _number(each, "delivered") for each in before.subscriptions
        }
        for each in self.subscriptions:
            identity = str(each["subscriptionId"])
            if identity in earlier:
                grown = _number(each, "delivered") - earlier[identity]
                self.rates[identity] = max(0.0, grown / (self.at_s - before.at_s))

    def to_json(self) -> Json:
        """The sample for programs."""
        return {
            "tenant": self.who.get("tenant"),
            "topics": [
                {
                    name: each[name]
                    for name in ("type", "ratePerSecond", "messages", "lastMessageAt")
                }
                for each in self.topics
            ],
            "subscriptions": [
                {**each, "deliveriesPerSecond": self.rates.get(str(each["subscriptionId"]))}
                for each in self.subscriptions
            ],
            "more": self.more,
        }


@click.command("top")
@config_option
@option(
    "--interval",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    help="Seconds between two looks.",
)
@option("--once", is_flag=True, help="Look once and end.")
@target_options
@json_option
def command(*, interval: float, once: bool, target: Target, as_json: bool) -> None:
    """Show topics with rates, and subscriptions with backlog and clients, live.

    Ends with Ctrl-C. With --json, or where nobody looks on, one JSON object a look.
    """
    lines = as_json or not sys.stdout.isatty()

    async def job() -> None:
        async with target.rest() as rest:
            if once:
                _show_once(await look(rest), as_json=as_json)
            elif lines:
                await until_signalled(_print_lines(rest, interval))
            else:
                await until_signalled(_redraw(rest, interval, target.url))

    with contextlib.suppress(BrokenPipeError):
        run(job())


def _show_once(sample: Sample, *, as_json: bool) -> None:
    if as_json:
        click.echo(to_line(sample.to_json()))
    else:
        stdout_console().print(board(sample, ""))


async def look(rest: RestClient, before: Sample | None = None) -> Sample:
    """Ask the service once. Raises Refused, Unreachable."""
    who, topics, page = await asyncio.gather(
        rest.call("GET", "/me"),
        rest.call("GET", "/topics"),
        rest.call("GET", f"/subscriptions?limit={SHOWN_MAX}"),
    )
    sample = Sample(
        at_s=asyncio.get_running_loop().time(),
        who=who,
        topics=_rows(topics),
        subscriptions=_rows(page),
        more=page.get("next") is not None,
    )
    sample.compare(before)
    return sample


async def _print_lines(rest: RestClient, interval: float) -> None:
    sample: Sample | None = None
    while True:
        sample = await look(rest, sample)
        click.echo(to_line(sample.to_json()))
        await asyncio.sleep(interval)


async def _redraw(rest: RestClient, interval: float, url: str) -> None:
    """A screen that is drawn anew; a service that is away for a while comes back by itself."""
    sample = await look(rest)
    with Live(console=stdout_console(), screen=True, auto_refresh=False) as live:
        fault = ""
        while True:
            live.update(board(sample, fault or url), refresh=True)
            await asyncio.sleep(interval)
            try:
                sample, fault = await look(rest, sample), ""
            except ClientError as error:
                fault = explain(error).partition("\n")[0]


def board(sample: Sample, note: str) -> RenderableType:
    """The whole screen."""
    head = Text("hotpath top", "bold")
    head.append(f"  tenant {clean(sample.who.get('tenant'))}", "cyan")
    head.append(f"  {clean(note)}" if note else "", "dim")
    parts: list[RenderableType] = [head, Text(), _topics(sample), Text()]
    if sample.subscriptions:
        parts.append(_subscriptions(sample, whole_ids=stdout_console().width >= WIDE))
    else:
        parts.append(Text("no subscriptions; create one with: hotpath subscribe TYPE", "dim"))
    if sample.more:
        parts.append(Text(f"… and more than these {len(sample.subscriptions)}", "dim"))
    return Group(*parts)


def _topics(sample: Sample) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("topic", min_width=16)
    for title in ("messages/s", "in the log", "last number"):
        table.add_column(title, justify="right", min_width=12)
    for each in sample.topics:
        per_second = _number(each, "ratePerSecond")
        table.add_row(
            clean(each["type"]),
            Text(f"{per_second:,.1f}", "bold cyan" if per_second else "dim"),
            f"{_number(each, 'messages'):,.0f}",
            f"{_number(each, 'nextSequenceNumber') - 1:,.0f}",
        )
    return table


def _subscriptions(sample: Sample, *, whole_ids: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    id_width = 36 if whole_ids else 9
    table.add_column("id", no_wrap=True, width=id_width, overflow="ellipsis")
    table.add_column("topic", no_wrap=True)
    table.add_column("filter", no_wrap=True, overflow="ellipsis", ratio=1)
    for title in ("msg/s", "backlog", "locked", "dead", "clients"):
        table.add_column(title, justify="right", no_wrap=True, min_width=len(title))
    for each in sorted(sample.subscriptions, key=lambda row: -_number(row, "backlog")):
        speed = sample.rates.get(str(each["subscriptionId"]))
        dead, backlog = _number(each, "deadLettered"), _number(each, "backlog")
        table.add_row(
            clean(each["subscriptionId"]),
            clean(each["type"]),
            Text(clean(each["filter"]), "green"),
            "-" if speed is None else f"{speed:,.1f}",
            Text(f"{backlog:,.0f}", "bold" if backlog else "dim"),
            f"{_number(each, 'locked'):,.0f}",
            Text(f"{dead:,.0f}", "red" if dead else "dim"),
            f"{_number(each, 'clients'):,.0f}",
        )
    return table


def _rows(answer: Json) -> list[Json]:
    return cast("list[Json]", answer.get("data") or [])


def _number(row: Json, name: str) -> float:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) else 0.0
