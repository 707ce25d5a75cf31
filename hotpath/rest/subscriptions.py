"""Subscriptions over REST: create, renew, show, list, delete."""

import re
from typing import cast

from aiohttp import web
from pydantic import ValidationError

import qel
from hotpath.auth.rights import Permission
from hotpath.auth.sas import issue
from hotpath.model.errors import Invalid, NotFound, Violation
from hotpath.model.names import (
    SUBSCRIBABLE,
    Topic,
    subscription_path,
    subscription_resource,
)
from hotpath.model.subscription import SubscriptionSpec
from hotpath.rest.bodies import is_number, read_object, violations_of
from hotpath.rest.calls import Call, answer, iso
from hotpath.rest.models import (
    CURSOR_PATTERN,
    PAGE_DEFAULT,
    PAGE_MAX,
    SubscriptionDetails,
    SubscriptionPage,
    SubscriptionRequest,
    SubscriptionResponse,
    SubscriptionType,
    SubscriptionUpdatedResponse,
    TokenRequest,
)
from hotpath.rest.services import Services
from hotpath.service.admin import NewSubscription, SubscriptionFigures


async def create_subscription(call: Call) -> web.Response:
    """`POST /subscriptions/{type}`."""
    services, topic = call.services, call.known_topic()
    body = await read_object(call.request, bytes_max=services.settings.max_control_bytes)
    wanted = read_new_subscription(body, topic, now_ms=services.clock.now_ms())
    spec = await services.admin.create(call.principal, wanted)
    call.audit["subscription"] = spec.id
    url = services.connection_url(subscription_path(topic, spec.id))
    token = _issue(services, spec, spec.sas_ttl_ms)
    answered = SubscriptionResponse(subscriptionId=spec.id, connectionURL=url, sasToken=token)
    return answer(answered, 201, Location=f"/subscriptions/{topic.value}/{spec.id}")


async def renew_token(call: Call) -> web.Response:
    """`PUT /subscriptions/{type}/{subscriptionId}`: a fresh token; older ones stay valid."""
    services = call.services
    spec = _find(call)
    body = await read_object(
        call.request, bytes_max=services.settings.max_control_bytes, required=False
    )
    minutes = _read_token_minutes(body, spec)
    ttl_ms = spec.sas_ttl_ms if minutes is None else services.settings.minutes_ms(minutes)
    url = services.connection_url(subscription_path(spec.topic, spec.id))
    return answer(
        SubscriptionUpdatedResponse(
            subscriptionId=spec.id,
            connectionURL=url,
            sasToken=_issue(services, spec, ttl_ms),
        )
    )


async def delete_subscription(call: Call) -> web.Response:
    """`DELETE /subscriptions/{type}/{subscriptionId}`."""
    spec = _find(call)
    await call.services.admin.delete(call.principal, spec.topic, spec.id)
    return web.Response(status=204)


async def revoke_tokens(call: Call) -> web.Response:
    """`POST /subscriptions/{type}/{subscriptionId}/revoke`: every token so far is worthless."""
    spec = _find(call)
    revoking = call.services.revoking
    await revoking.revoke_subscription(call.principal, spec.topic, spec.id)
    return web.Response(status=204)


async def show_subscription(call: Call) -> web.Response:
    """`GET /subscriptions/{type}/{subscriptionId}`."""
    spec = _find(call)
    figures = await call.services.control.figures([spec])
    if not figures:
        raise NotFound(f"there is no subscription {spec.id}")
    return answer(_details(figures[0]))


async def list_subscriptions(call: Call) -> web.Response:
    """`GET /subscriptions`: the caller's own, oldest first."""
    admin = call.services.admin
    specs, following = admin.list_own(
        call.principal,
        after=_read_cursor(call.request.query.get("cursor", "")),
        limit=_read_limit(call.request.query.get("limit")),
        topics=[t for t in SUBSCRIBABLE if call.principal.may(Permission.SUBSCRIBE, t)],
    )
    details = [_details(figures) for figures in await call.services.control.figures(specs)]
    return answer(SubscriptionPage(data=details, next=following))


# Reading


def read_new_subscription(body: dict[str, object], topic: Topic, *, now_ms: int) -> NewSubscription:
    """What a body asks for. Raises Invalid with everything that is wrong with it."""
    faults: list[Violation] = []
    request: SubscriptionRequest | None = None
    try:
        request = SubscriptionRequest.model_validate(body)
    except ValidationError as error:
        faults += violations_of(error, SubscriptionRequest)
    faults += _check_order(body)
    filter_, more = _compile(body.get("filter"), topic)
    faults += more
    start_ms, more = _read_start(body.get("startFrom"), now_ms)
    faults += more
    if request is None or filter_ is None or faults:
        raise Invalid(faults)
    return NewSubscription(
        topic=topic,
        filter=filter_,
        filter_text=request.filter,
        ttl_minutes=request.subscriptionTTL,
        sas_ttl_minutes=request.sasTokenTTL,
        start_from_ms=start_ms,
    )


def _check_order(body: dict[str, object]) -> list[Violation]:
    """The subscription must outlive the tokens for it."""
    ttl, sas = body.get("subscriptionTTL"), body.get("sasTokenTTL")
    if not is_number(ttl) or not is_number(sas) or ttl > sas:
        return []
    return [Violation("subscriptionTTL must be greater than sasTokenTTL", "/subscriptionTTL")]


def _compile(text: object, topic: Topic) -> tuple[qel.Filter | None, list[Violation]]:
    """The filter of a text, or what is wrong with it."""
    if not isinstance(text, str):
        return None, []  # said by the model already
    if not text.strip():
        return None, [Violation("filter must not be empty", "/filter", {"line": 1, "column": 1})]
    try:
        return qel.compile_filter(text, topic.value), []
    except qel.QelError as error:
        return None, [_filter_violation(problem) for problem in error.errors]


def _filter_violation(problem: qel.Problem) -> Violation:
    meta: dict[str, object] = {"line": problem.line, "column": problem.column}
    if problem.suggestion:
        meta["suggestion"] = problem.suggestion
    return Violation(f"filter: {problem}", "/filter", meta)


def _read_start(text: object, now_ms: int) -> tuple[int | None, list[Violation]]:
    """Where replay begins, wall clock: 0 for the earliest, None for now."""
    if not isinstance(text, str) or text == "now":
        return None, []
    if text == "earliest":
        return 0, []
    moment = qel.parse_datetime(text)
    if moment is None:
        detail = 'startFrom must be "now", "earliest" or an ISO 8601 dateTime'
        return None, [Violation(detail, "/startFrom")]
    start_ms = -(-int(moment) // 1_000_000)
    if start_ms > now_ms:
        return None, [Violation("startFrom must not be in the future", "/startFrom")]
    return max(0, start_ms), []


def _read_token_minutes(body: dict[str, object], spec: SubscriptionSpec) -> float | None:
    """The life of a fresh token that a body asks for. Raises Invalid."""
    try:
        minutes = TokenRequest.model_validate(body).sasTokenTTL
    except ValidationError as error:
        raise Invalid(violations_of(error, TokenRequest)) from None
    if minutes is not None and minutes >= spec.ttl_minutes:
        detail = f"sasTokenTTL must be below the subscription's TTL of {spec.ttl_minutes:g}"
        raise Invalid([Violation(detail, "/sasTokenTTL")])
    return minutes


def _read_limit(text: str | None) -> int:
    if text is None:
        return PAGE_DEFAULT
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= PAGE_MAX):
        raise Invalid([Violation(f"limit must be between 1 and {PAGE_MAX}", "/limit")])
    return int(text)


def _read_cursor(text: str) -> str | None:
    if not re.fullmatch(CURSOR_PATTERN, text):
        raise Invalid([Violation("cursor is not one that this service gave", "/cursor")])
    return text or None


# Answering


def _find(call: Call) -> SubscriptionSpec:
    """The subscription of the path, if it is the caller's own. Raises NotFound."""
    identity = call.request.match_info["subscriptionId"]
    spec = call.services.admin.get(call.principal, call.known_topic(), identity)
    call.audit["subscription"] = spec.id
    return spec


def _issue(services: Services, spec: SubscriptionSpec, ttl_ms: int) -> str:
    """A token for a feed, to the end of the second in which its life ends."""
    ends_ms = services.clock.now_ms() + ttl_ms
    resource = services.connection_url(subscription_resource(spec.topic, spec.id, spec.generation))
    return issue(services.ring.current, resource, expires_s=-(-ends_ms // 1000))


def _details(figures: SubscriptionFigures) -> SubscriptionDetails:
    spec = figures.spec
    return SubscriptionDetails(
        subscriptionId=spec.id,
        type=cast("SubscriptionType", spec.topic.value),
        filter=spec.filter,
        subscriptionTTL=spec.ttl_minutes,
        sasTokenTTL=spec.sas_ttl_minutes,
        createdAt=iso(spec.created_ms),
        lastActivityAt=iso(figures.last_activity_ms),
        expiresAt=iso(figures.expires_ms),
        backlog=figures.backlog,
        locked=figures.locked,
        delivered=figures.delivered,
        deadLettered=figures.dead_lettered,
        clients=figures.clients,
    )
