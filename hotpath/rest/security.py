"""Who calls, whether they may, and not too often."""

import hashlib
import math
from datetime import timedelta
from typing import Final

from aiohttp import web
from throttled import MemoryStore, Quota, Rate, RateLimiterRegistry

from hotpath.auth.jwt import TokenVerifier
from hotpath.auth.rights import SCOPE_PREFIX, Permission, Principal
from hotpath.config import Settings
from hotpath.model.errors import Forbidden, NotFound, TooMany
from hotpath.model.names import Topic
from hotpath.rest.problems import TokenMissing

_TOPICS: Final = {topic.value: topic for topic in Topic}

# The library counts whole periods of whole seconds; a long one makes room for any rate.
_PERIOD_S: Final = 1_000_000


def fingerprint(request: web.Request) -> str | None:
    """What the audit log calls a caller's token, good or not: enough to tell two apart."""
    _, _, token = request.headers.get("Authorization", "").strip().partition(" ")
    if not token.strip():
        return None
    # Headers come with bytes that are no UTF-8 as surrogates.
    digest = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


async def authenticate(request: web.Request, verifier: TokenVerifier) -> Principal:
    """The caller of a request (RFC 6750 §2.1). Raises Unauthorized."""
    headers = request.headers.getall("Authorization", [])
    if len(headers) > 1:
        raise TokenMissing("there must be one Authorization header")
    scheme, _, token = (headers[0] if headers else "").strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise TokenMissing("a bearer token is needed: Authorization: Bearer <token>")
    return await verifier.verify(token)


def authorise(
    principal: Principal, permission: Permission, *, kind: str | None, topics: tuple[Topic, ...]
) -> Topic | None:
    """Check a permission, on the topic that `kind` of the path names if there is one.

    The right is asked first: who may not know a topic is not told whether it exists.

    Raises:
        Forbidden: The scopes do not cover it.
        NotFound: They may, but there is no such topic here.
    """
    topic = None if kind is None else _TOPICS.get(kind)
    if topic not in topics:
        topic = None
    if topic is not None:
        allowed = principal.may(permission, topic)
    elif permission is Permission.ADMIN:
        allowed = principal.may(permission)
    else:
        allowed = principal.may_anywhere(permission)
    if not allowed:
        scope = SCOPE_PREFIX + permission.value
        raise Forbidden(f"your token lacks the scope {scope} for this", scope=scope)
    if kind is not None and topic is None:
        raise NotFound("there is no such type; it is one of " + ", ".join(topics))
    return topic


class RateLimiter:
    """Bounds the control calls of each principal: so many at once, so many a second on average.

    The algorithm is the library's GCRA, which admits exactly what a token bucket with continuous
    refill does; the library's bucket by that name refills in whole seconds. Of principals over
    `rate_limit_principals_max`, the one that has been silent longest is forgotten.
    """

    def __init__(self, settings: Settings) -> None:
        limit = max(1, round(settings.rate_per_second * _PERIOD_S))
        quota = Quota(Rate(timedelta(seconds=_PERIOD_S), limit), settings.rate_limit_burst)
        store = MemoryStore(options={"MAX_SIZE": settings.rate_limit_principals_max})
        self._limiter = RateLimiterRegistry.get("gcra")(quota, store)

    def count(self, principal: Principal) -> None:
        """Count a control call. Raises TooMany, which does not count."""
        # Neither part holds control characters, so no two principals share a key.
        result = self._limiter.limit(f"{principal.tenant}\n{principal.subject}")
        if result.limited:
            wait_s = result.state.retry_after
            raise TooMany(
                f"too many control calls; try again in {math.ceil(max(wait_s, 1))} s",
                retry_after_s=wait_s,
            )
