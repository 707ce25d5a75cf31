"""Calls that only look: who calls, topics, messages, what a filter makes of them and why."""

import asyncio
from typing import Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

import qel
from hotpath import __version__
from hotpath.auth.rights import Permission
from hotpath.model.errors import Invalid, NotFound
from hotpath.model.names import SUBSCRIBABLE, Topic, TopicKey
from hotpath.rest.bodies import read_object, violations_of
from hotpath.rest.calls import Call, answer, iso
from hotpath.rest.look_models import (
    SEQ_MAX,
    ExplainError,
    ExplainRequest,
    ExplainResponse,
    JudgedMessage,
    LastQuery,
    MessageList,
    SessionResponse,
    TopicDetails,
    TopicList,
    TopicProperty,
)
from hotpath.rest.shown import show_account, show_judged, show_message
from hotpath.service.admin import compile_condition
from hotpath.service.look import Passes, Seen, all_pass
from hotpath.service.reasons import Judge
from hotpath.wire.properties import Puller

#: Predicates of a filter times messages that one call explains.
PREDICATES_MAX: Final = 4_096

_ModelT = TypeVar("_ModelT", bound=BaseModel)


async def show_session(call: Call) -> web.Response:
    """`GET /me`: what the caller's token says, as the service reads it."""
    who = call.principal
    return answer(
        SessionResponse(
            tenant=who.tenant,
            subject=who.subject,
            scopes=sorted(who.scopes),
            condition=who.condition,
            partitions=sorted(who.partitions),
            expiresAt=None if who.until_ms is None else iso(who.until_ms),
            version=__version__,
            minuteSeconds=call.services.settings.minute,
        )
    )


async def list_topics(call: Call) -> web.Response:
    """`GET /topics`: those the caller may subscribe to, with what they hold and their rates."""
    topics = [t for t in SUBSCRIBABLE if call.principal.may(Permission.SUBSCRIBE, t)]
    return answer(TopicList(data=[await _topic(call, topic) for topic in topics]))


async def _topic(call: Call, topic: Topic) -> TopicDetails:
    figures = await call.services.looking.figures(TopicKey(call.principal.tenant, topic))
    schema = qel.TOPICS[topic.value]
    return TopicDetails.model_validate(
        {
            "type": topic.value,
            "firstSequenceNumber": figures.first_seq,
            "nextSequenceNumber": figures.next_seq,
            "messages": figures.messages,
            "ratePerSecond": figures.per_second,
            "lastMessageAt": None if figures.last_ms is None else iso(figures.last_ms),
            "properties": [
                TopicProperty(name=name, type=kind.value)
                for name, kind in schema.properties.items()
            ],
            "openProperties": schema.is_open,
        }
    )


async def list_messages(call: Call) -> web.Response:
    """`GET /topics/{type}/messages`: the last ones that the caller may see."""
    query = read_query(call, LastQuery)
    topic = call.known_topic()
    key = TopicKey(call.principal.tenant, topic)
    look = await call.services.looking.latest(key, query.last, passes=_in_sight(call, topic))
    shown = [show_message(seen) for seen in look.messages]
    return answer(MessageList(data=shown, looked=look.looked))


async def explain_filter(call: Call) -> web.Response:
    """`POST /topics/{type}/explain`: an invalid filter is an answer here, not an error."""
    topic = call.known_topic()
    body = await read_object(call.request, bytes_max=call.services.settings.max_control_bytes)
    try:
        request = ExplainRequest.model_validate(body)
    except ValidationError as error:
        raise Invalid(violations_of(error, ExplainRequest)) from None
    passes = _in_sight(call, topic)
    try:
        filter_ = qel.compile_filter(request.filter, topic.value)
    except qel.QelError as error:
        return answer(_refused(error))
    judge = Judge(filter_)
    count = min(request.last, max(1, PREDICATES_MAX // judge.predicates))
    key = TopicKey(call.principal.tenant, topic)
    look = await call.services.looking.latest(key, count, passes=passes)
    judged = await _judge(judge, look.messages)
    return answer(
        ExplainResponse(
            valid=True,
            canonical=str(filter_),
            errors=[],
            data=judged,
            matched=sum(message.matches is True for message in judged),
            looked=look.looked,
        )
    )


async def _judge(judge: Judge, messages: list[Seen]) -> list[JudgedMessage]:
    """The newest first, one a turn of the loop: explaining costs more than matching."""
    judged = []
    for seen in reversed(messages):
        judged.append(show_judged(seen, judge.explain(seen.stored)))
        await asyncio.sleep(0)
    return judged


def _refused(error: qel.QelError) -> ExplainResponse:
    errors = [
        ExplainError(
            detail=problem.detail,
            line=problem.line,
            column=problem.column,
            suggestion=problem.suggestion or None,
        )
        for problem in error.errors
    ]
    return ExplainResponse(valid=False, canonical=None, errors=errors, data=[], matched=0, looked=0)


async def show_fate(call: Call) -> web.Response:
    """`GET /subscriptions/{type}/{subscriptionId}/messages/{sequenceNumber}`."""
    topic = call.known_topic()
    identity = call.request.match_info["subscriptionId"]
    spec = call.services.admin.get(call.principal, topic, identity)
    call.audit["subscription"] = spec.id
    seq = _read_number(call.request.match_info["sequenceNumber"])
    if seq is None:
        raise NotFound("a sequence number is a whole number from 1 on")
    condition = call.principal.condition
    account = await call.services.control.account(spec, seq, condition=condition)
    return answer(show_account(account))


def read_query(call: Call, model: type[_ModelT]) -> _ModelT:
    """The query of a call. Raises Invalid."""
    try:
        return model.model_validate(dict(call.request.query))
    except ValidationError as error:
        raise Invalid(violations_of(error, model)) from None


def _read_number(text: str) -> int | None:
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        return None
    number = int(text)
    return number if 1 <= number <= SEQ_MAX else None


def _in_sight(call: Call, topic: Topic) -> Passes:
    """Passes what the caller may see: everything, or what its condition lets through."""
    condition = compile_condition(call.principal.condition, topic)
    if condition is None:
        return all_pass
    pull, matches = Puller(condition.properties).pull, condition.matches
    return lambda stored: matches(pull(stored))
