"""What commands show: messages as lines, for people or for programs."""

import json
import sys
from collections.abc import Mapping
from functools import cache
from typing import Final

from rich.console import Console
from rich.text import Text

from hotpath.client.message import FeedMessage, plain_json
from hotpath.model.names import Topic

_QUALITIES: Final = {192: ("good", "green"), 64: ("uncertain", "yellow"), 0: ("bad", "red")}
_SEVERITIES: Final = {"critical": "bold red", "warning": "yellow", "info": "cyan"}


@cache
def stdout_console() -> Console:
    """Where results for people go."""
    return Console(highlight=False)


@cache
def stderr_console() -> Console:
    """Where progress and notices go."""
    return Console(stderr=True, highlight=False)


def wants_json(as_json: bool) -> bool:
    """Whether messages come as JSON lines: asked for, or nobody looks on."""
    return as_json or not sys.stdout.isatty()


def to_line(value: Mapping[str, object]) -> str:
    """A value as one line of JSON."""
    return json.dumps(plain_json(value), ensure_ascii=False, separators=(",", ":"))


def notice(text: str) -> None:
    """Say something beside the results, on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def message_text(topic: Topic, message: FeedMessage) -> Text:
    """A message for people, in one coloured line: when, who, what."""
    moment = message.get("eventTime" if topic is Topic.PLATFORM_EVENTS else "timestamp")
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(_clock(moment), "dim")
    who = message.get("objectId") or message.get("typeId")
    line.append(f"  {clean(who) if who else '-':<14} ", "bold")
    match topic:
        case Topic.VARIABLES:
            _add_variable(line, message)
        case Topic.ALARMS:
            _add_alarm(line, message)
        case Topic.EVENTS:
            line.append(clean(message.get("event")), "cyan")
            line.append("  " + _pairs(message.get("value")), "dim")
        case _:
            _add_platform_event(line, message)
    return line


def _add_variable(line: Text, message: FeedMessage) -> None:
    line.append(f"{clean(message.get('variable'))} = ", "default")
    line.append(clean(message.get("value")), "bold cyan")
    quality = message.get("quality")
    known = _QUALITIES.get(quality) if isinstance(quality, int) else None
    if known:
        line.append(f"  {known[0]}", known[1])
    elif quality is not None:
        line.append(f"  quality {clean(quality)}", "dim")


def _add_alarm(line: Text, message: FeedMessage) -> None:
    value = message.get("value")
    detail = value if isinstance(value, dict) else {}
    style = _SEVERITIES.get(str(detail.get("severity")), "default")
    if detail.get("state") == "cleared":
        style = "green"
    line.append(f"{clean(message.get('alarm'))} {clean(detail.get('state', ''))}", style)
    rest = {key: each for key, each in detail.items() if key not in ("state", "severity")}
    line.append("  " + (_pairs(rest) if rest else _pairs(value)), "dim")


def _add_platform_event(line: Text, message: FeedMessage) -> None:
    severity = str(message.get("severity") or "")
    line.append(clean(message.get("eventType")), _SEVERITIES.get(severity, "default"))
    body = message.to_object()
    shown = {"eventType", "eventTime", "objectId"}
    line.append("  " + _pairs({k: v for k, v in body.items() if k not in shown}), "dim")


def _pairs(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{clean(key)}={clean(each)}" for key, each in value.items())
    return "" if value is None else clean(value)


def clean(value: object) -> str:
    """A value without what a terminal would obey: publishers may write anything."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return "".join(char if char.isprintable() else "�" for char in text[:500])


def _clock(moment: object) -> str:
    """The time of day of an ISO text; anything else as it is."""
    text = clean(moment if moment is not None else "-")
    _, separator, clock = text.partition("T")
    return clock.rstrip("Z")[:12] if separator else text
