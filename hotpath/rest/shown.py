"""Stored messages, fates and reasons as the answers show them."""

import math
from typing import Final

from hotpath.rest.calls import iso
from hotpath.rest.look_models import (
    FeedMessage,
    JudgedMessage,
    MessageShown,
    ReasonShown,
    WhyResponse,
)
from hotpath.service.look import Seen
from hotpath.service.reasons import Judgement, Reason
from hotpath.service.why import Account, Fate
from hotpath.wire.values import WireError
from hotpath.wire.view import MessageView, describe
from qel import DateTime

#: A larger message is shown by its size alone, bytes.
SHOWN_BYTES: Final = 65_536
#: Deeper values are cut off.
DEPTH_MAX: Final = 32
_CUT_OFF: Final = "…"


def show_message(seen: Seen) -> MessageShown:
    """A message of the log."""
    return MessageShown.model_validate(_message_fields(seen))


def show_judged(seen: Seen, judgement: Judgement) -> JudgedMessage:
    """A message with what a filter made of it."""
    return JudgedMessage.model_validate(
        {
            **_message_fields(seen),
            "matches": judgement.truth,
            "because": judgement.because,
            "explanation": show_reason(judgement.reason),
        }
    )


def show_in_feed(seen: Seen, fate: Fate, delivery_count: int) -> FeedMessage:
    """A message of a subscription."""
    return FeedMessage.model_validate(
        {**_message_fields(seen), "state": fate.value, "deliveryCount": delivery_count}
    )


def show_account(account: Account) -> WhyResponse:
    """What became of a message."""
    judgement, letter, seen = account.judgement, account.letter, account.seen
    return WhyResponse(
        sequenceNumber=account.seq,
        state=account.fate.value,
        detail=account.detail,
        matches=False
        if account.fate is Fate.NOT_MATCHED and judgement is None
        else _truth(judgement),
        because=None if judgement is None else judgement.because,
        explanation=None if judgement is None else show_reason(judgement.reason),
        deliveryCount=account.delivery_count,
        lockedUntil=_time(account.locked_until_ms),
        expiresAt=_time(account.expires_ms),
        deadLetterReason=None if letter is None else letter.reason,
        deadLetterDescription=None if letter is None else letter.description,
        message=None if seen is None else show_message(seen),
    )


def show_reason(reason: Reason) -> ReasonShown:
    """The tree of a filter's truth; as deep as filters may be nested."""
    return ReasonShown.model_validate(_reason_fields(reason))


def _reason_fields(reason: Reason) -> dict[str, object]:
    return {
        "kind": reason.kind,
        "expression": reason.expression,
        "truth": reason.truth,
        "because": reason.because,
        "parts": [_reason_fields(part) for part in reason.parts],
    }


def _truth(judgement: Judgement | None) -> bool | None:
    return None if judgement is None else judgement.truth


def _time(wall_ms: int | None) -> str | None:
    return None if wall_ms is None else _iso(wall_ms)


def _iso(wall_ms: int) -> str:
    """As `iso`; a publisher's time may lie beyond what calendars have."""
    try:
        return iso(wall_ms)
    except (ValueError, OverflowError, OSError):
        return iso(0 if wall_ms < 0 else 253_402_300_799_999)


def _message_fields(seen: Seen) -> dict[str, object]:
    view = _view(seen.stored)
    kind = None if view is None else view.content_type
    return {
        "sequenceNumber": seen.seq,
        "enqueuedTime": iso(seen.enqueued_ms),
        "sizeBytes": len(seen.stored),
        "contentType": kind if isinstance(kind, str) else None,
        "applicationProperties": {} if view is None else to_json(view.application_properties),
        "body": None if view is None else to_json(view.body),
        "truncated": view is None,
    }


def _view(stored: bytes) -> MessageView | None:
    """What a message says; None for one that is too large or damaged."""
    if len(stored) > SHOWN_BYTES:
        return None
    try:
        return describe(stored)
    except WireError:
        return None


def to_json(value: object, depth: int = 0) -> object:
    """A value as JSON has it: times as ISO text, bytes as text with escapes, NaN as its name."""
    match value:
        case list() | dict():
            return _compound(value, depth + 1)
        case DateTime():
            return value.isoformat()
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case None | bool() | str() | int() | float():
            return _scalar(value)
        case _:
            return str(value)


def _compound(value: list[object] | dict[object, object], depth: int) -> object:
    if depth > DEPTH_MAX:
        return _CUT_OFF
    if isinstance(value, list):
        return [to_json(item, depth) for item in value]
    return {str(name): to_json(item, depth) for name, item in value.items()}


def _scalar(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, int) and value.bit_length() > 1024:
        # More digits than Python writes, and than anybody reads.
        return _CUT_OFF
    return value
