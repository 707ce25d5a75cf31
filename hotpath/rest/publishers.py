"""Publishers over REST: a right to send to one topic over AMQP."""

from aiohttp import web
from pydantic import ValidationError

from hotpath.auth.sas import issue
from hotpath.model.errors import Invalid
from hotpath.model.names import publisher_path
from hotpath.rest.bodies import read_object, violations_of
from hotpath.rest.calls import Call, answer
from hotpath.rest.models import PUBLISHER_TTL_MINUTES, PublisherRequest, PublisherResponse


async def delete_publisher(call: Call) -> web.Response:
    """`DELETE /publishers/{type}/{publisherId}`: its token is worthless from now on."""
    identity = call.request.match_info["publisherId"]
    call.audit["publisher"] = identity[:128]
    await call.services.revoking.delete_publisher(call.principal, call.known_topic(), identity)
    return web.Response(status=204)


async def open_publisher(call: Call) -> web.Response:
    """`POST /publishers/{type}`."""
    services, topic = call.services, call.known_topic()
    body = await read_object(
        call.request, bytes_max=services.settings.max_control_bytes, required=False
    )
    try:
        minutes = PublisherRequest.model_validate(body).sasTokenTTL
    except ValidationError as error:
        raise Invalid(violations_of(error, PublisherRequest)) from None
    spec = await services.publishers.open(
        call.principal,
        topic,
        ttl_minutes=PUBLISHER_TTL_MINUTES if minutes is None else minutes,
    )
    call.audit["publisher"] = spec.id
    resource = services.connection_url(publisher_path(topic, spec.id))
    token = issue(services.ring.current, resource, expires_s=-(-spec.expires_ms // 1000))
    return answer(
        PublisherResponse(
            publisherId=spec.id,
            connectionURL=services.connection_url(topic.value),
            sasToken=token,
        ),
        201,
    )
