"""What a call on streams says: its partition, its query, its body."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from hotpath.model.errors import Forbidden, Invalid, Violation
from hotpath.rest.bodies import read_object, refuse, violations_of
from hotpath.rest.calls import Call
from hotpath.service.points import PointPublishing
from hotpath.service.points_read import id_fault
from hotpath.service.secrets import SecretValue
from hotpath.service.streams import Stream, Streams
from hotpath.webhooks.address import TargetPolicy, TargetRefused
from hotpath.webhooks.interface import WebhookDeliveries
from hotpath.webhooks.models import KINDS, PAGE_DEFAULT, PAGE_MAX
from hotpath.webhooks.signing import BadSecret, SigningSecret
from hotpath.webhooks.target import check_url

#: Characters of a partition's name that the audit line shows.
PARTITION_CHARS_MAX: Final = 256
#: Longest mark of a page, characters.
CURSOR_CHARS_MAX: Final = 256

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class StreamServices:
    """What the calls on streams work on."""

    streams: Streams
    points: PointPublishing
    deliveries: WebhookDeliveries
    policy: TargetPolicy


def read_partition(call: Call) -> str:
    """The partition of the path. Raises Forbidden when the token does not grant it.

    One that is granted is a sane name: the token has been checked.
    """
    partition = call.request.match_info["partitionId"]
    call.audit["partition"] = partition[:PARTITION_CHARS_MAX]
    principal = call.principal
    if partition != principal.tenant and partition not in principal.partitions:
        raise Forbidden("your token does not grant this partition")
    return partition


def check_kind(call: Call, *, required: bool = True) -> None:
    """Check `type` in the query. Raises Invalid."""
    given = call.request.query.getall("type", [])
    if (not given and not required) or (len(given) == 1 and given[0] in KINDS):
        return
    detail = f"type in the query must be {KINDS[0]}"
    raise Invalid([Violation(detail, "?type")])


def find_stream(call: Call, services: StreamServices, *, kind_required: bool = True) -> Stream:
    """The stream of the path, if it is the caller's own.

    Raises Forbidden, Invalid or NotFound.
    """
    partition = read_partition(call)
    check_kind(call, required=kind_required)
    identity = call.request.match_info["streamId"]
    stream = services.streams.get(call.principal, partition, identity)
    call.audit["stream"] = stream.id
    return stream


def read_page(call: Call) -> tuple[str | None, int]:
    """Where a page begins, and how long it is. Raises Invalid."""
    query = call.request.query
    text = query.get("page[limit]", str(PAGE_DEFAULT))
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= PAGE_MAX):
        raise refuse(f"page[limit] must be between 1 and {PAGE_MAX}", "?page[limit]")
    cursor = query.get("page[cursor]", "")
    if len(cursor) > CURSOR_CHARS_MAX:
        raise refuse("the cursor is not one that this service gave", "?page[cursor]")
    return cursor or None, int(text)


async def read_model(
    call: Call, model: type[M], *, required: bool = True, large: bool = False
) -> M:
    """The body. Raises Invalid with everything that is wrong with it, or TooLarge."""
    settings = call.services.settings
    bytes_max = settings.max_stream_bytes if large else settings.max_control_bytes
    body = await read_object(call.request, bytes_max=bytes_max, required=required)
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise Invalid(violations_of(error, model)) from None


def check_points(points: Sequence[str]) -> list[Violation]:
    """What is wrong with ids beyond their length, which the model has checked: the first fault."""
    # Together first: there may be a hundred thousand.
    if "".join(points).isprintable():
        return []
    for index, point in enumerate(points):
        fault = id_fault(point)
        if fault is not None:
            return [Violation(fault, f"/pointIds/{index}")]
    return []


def check_target(url: str, policy: TargetPolicy) -> list[Violation]:
    """What is wrong with a webhook URL."""
    try:
        check_url(url, policy)
    except TargetRefused as refusal:
        return [Violation(f"webhookUrl: {refusal.reason}", "/webhookUrl")]
    return []


def check_secret(text: str | None) -> list[Violation]:
    """What is wrong with a secret; never with the secret in it."""
    try:
        if text is not None:
            SigningSecret.of(text)
    except BadSecret as error:
        return [Violation(f"webhookSecret: {error}", "/webhookSecret")]
    return []


def secret_of(text: str | None) -> SecretValue | None:
    """A secret as the service keeps it."""
    return None if text is None else SecretValue(text)


def read_event(body: bytes) -> dict[str, object]:
    """A stored event as JSON; empty when it is none, which older data may hold."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
