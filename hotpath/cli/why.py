"""`hotpath why SUBSCRIPTION SEQ`: whether a message matched, and what became of it."""

from typing import Final, cast

import click
from rich.markup import escape
from rich.tree import Tree

from hotpath.cli.configfile import config_option
from hotpath.cli.options import Target, json_option, target_options
from hotpath.cli.output import clean, stdout_console, to_line, wants_json
from hotpath.cli.running import Failure, run
from hotpath.client.errors import Refused
from hotpath.client.rest import RestClient
from hotpath.model.names import SUBSCRIBABLE

_STYLES: Final = {True: "green", False: "red", None: "yellow"}
_WORDS: Final = {True: "true", False: "false", None: "unknown"}
_JOINTS: Final = {"and": "all of", "or": "any of", "not": "not"}
_SEQ_MAX: Final = 2**63 - 1
#: What is told of a message besides its state, and in which words.
_FACTS: Final = {
    "deliveryCount": "failed deliveries",
    "lockedUntil": "locked until",
    "expiresAt": "life ends",
    "deadLetterReason": "dead letter because",
    "deadLetterDescription": "description",
}


@click.command("why")
@config_option
@click.argument("subscription", metavar="SUBSCRIPTION")
@click.argument("seq", metavar="SEQ", type=click.IntRange(min=1, max=_SEQ_MAX))
@target_options
@json_option
def command(*, subscription: str, seq: int, target: Target, as_json: bool) -> None:
    """Tell whether message SEQ matched a subscription, why, and what became of it.

    SUBSCRIPTION is the identifier of an own subscription, SEQ the sequence number of a message of
    its topic, as receivers see it in x-opt-sequence-number.
    """
    found = run(_ask(target, subscription, seq))
    if wants_json(as_json):
        click.echo(to_line(found))
    else:
        _print(found)


async def _ask(target: Target, subscription: str, seq: int) -> dict[str, object]:
    async with target.rest() as rest:
        kind = await _type_of(rest, subscription)
        return await rest.call("GET", f"/subscriptions/{kind}/{subscription}/messages/{seq}")


async def _type_of(rest: RestClient, subscription: str) -> str:
    """The type of a subscription, which its identifier does not tell. Raises Failure."""
    # No identifier has other characters; the path would not be the one that is meant.
    if subscription and all(char.isalnum() or char in "-_" for char in subscription):
        for topic in SUBSCRIBABLE:
            try:
                await rest.call("GET", f"/subscriptions/{topic.value}/{subscription}")
            except Refused as error:
                # A token may be good for some types only.
                if error.status not in {403, 404}:
                    raise
            else:
                return topic.value
    raise Failure(f"there is no subscription {clean(subscription)}; `hotpath list` shows them")


def _print(found: dict[str, object]) -> None:
    console = stdout_console()
    head = f"[bold]#{found['sequenceNumber']}[/]  [cyan]{escape(clean(found['state']))}[/]"
    console.print(f"{head}  {escape(clean(found['detail']))}")
    for name, meaning in _FACTS.items():
        if found.get(name):
            console.print(f"  [dim]{meaning}[/] {escape(clean(found[name]))}")
    reason = found.get("explanation")
    if isinstance(reason, dict):
        console.print(_tree(cast("dict[str, object]", reason)))
    message = found.get("message")
    if isinstance(message, dict) and message.get("body") is not None:
        console.print(f"  [dim]body[/] {escape(clean(message['body']))}")


def _tree(reason: dict[str, object]) -> Tree:
    """The truth of every part of the filter; parts are nested as deep as filters may be."""
    tree = Tree(_label(reason))
    for part in cast("list[dict[str, object]]", reason.get("parts") or []):
        tree.add(_tree(part))
    return tree


def _label(reason: dict[str, object]) -> str:
    truth = cast("bool | None", reason.get("truth"))
    word = f"[{_STYLES[truth]}]{_WORDS[truth]}[/]"
    kind = str(reason.get("kind"))
    if kind in _JOINTS:
        return f"{word} {_JOINTS[kind]}"
    expression = str(reason.get("expression"))
    saw = str(reason.get("because")).removeprefix(f"{expression} is {_WORDS[truth]}").strip(", ")
    return f"{word} {escape(clean(expression))}  [dim]{escape(clean(saw))}[/]"
