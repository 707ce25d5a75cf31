"""The signing keys over REST, for whoever operates the service."""

from aiohttp import web
from pydantic import ValidationError

from hotpath.model.errors import Invalid
from hotpath.rest.bodies import read_object, violations_of
from hotpath.rest.calls import Call, answer, iso
from hotpath.rest.models import KeyDetails, KeyList, KeyRequest, NewKeyResponse
from hotpath.rest.services import Services
from hotpath.service.keys import KeptKey


async def list_keys(call: Call) -> web.Response:
    """`GET /admin/keys`: names and times, never a secret."""
    services = call.services
    return answer(KeyList(data=[_details(services, kept) for kept in services.keys.all()]))


async def add_key(call: Call) -> web.Response:
    """`POST /admin/keys`: the secret of a tenant's key is in this answer and nowhere else."""
    services = call.services
    body = await read_object(
        call.request, bytes_max=services.settings.max_control_bytes, required=False
    )
    try:
        wanted = KeyRequest.model_validate(body)
    except ValidationError as error:
        raise Invalid(violations_of(error, KeyRequest)) from None
    kept = await services.keys.add(wanted.name, wanted.tenant)
    call.audit.update(key_name=kept.key.name, key_tenant=kept.key.tenant)
    details = _details(services, kept)
    secret = None if kept.key.tenant is None else kept.key.secret
    return answer(NewKeyResponse(**details.model_dump(), secret=secret), 201)


async def retire_key(call: Call) -> web.Response:
    """`POST /admin/keys/{name}/retire`: its tokens count no longer."""
    name = _name(call)
    return answer(_details(call.services, await call.services.keys.retire(name)))


async def remove_key(call: Call) -> web.Response:
    """`DELETE /admin/keys/{name}`: forget a retired key."""
    await call.services.keys.remove(_name(call))
    return web.Response(status=204)


def _name(call: Call) -> str:
    name = call.request.match_info["name"]
    call.audit["key_name"] = name[:128]
    return name


def _details(services: Services, kept: KeptKey) -> KeyDetails:
    return KeyDetails(
        name=kept.key.name,
        tenant=kept.key.tenant,
        createdAt=iso(kept.key.created_ms),
        retiredAt=None if kept.retired_ms is None else iso(kept.retired_ms),
        signs=services.keys.signs(kept),
    )
