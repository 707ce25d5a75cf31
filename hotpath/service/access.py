"""From a credential on an AMQP connection to a `Grant`, and from an address to what it may reach.

Four credentials exist: a SAS token (of a subscription, of a publisher, or signed with a key of
the ring for any resource), the name and secret of a key, a JWT as REST takes it, and a verified
client certificate. A token tells what it covers; whether that exists is asked at the attach.
"""

import hmac
from typing import Final

from hotpath.auth.jwt import TokenVerifier
from hotpath.auth.rights import Action, Grant, Origin, Permission, Principal
from hotpath.auth.sas import KeyRing, SasClaims, SigningKey, is_sas, read_sas
from hotpath.model.errors import NotFound, Unauthorized
from hotpath.model.names import (
    GENERATION,
    MANAGEMENT,
    SUBSCRIBABLE,
    Address,
    AddressKind,
    TenantId,
    Topic,
    TopicKey,
    split_path,
)
from hotpath.model.subscription import SubscriptionSpec
from hotpath.ports import Clock
from hotpath.service.admin import Administration
from hotpath.service.feeds import Known, spec_of
from hotpath.service.publishers import Publishers

BOTH: Final = frozenset({Action.LISTEN, Action.SEND})
LISTEN: Final = frozenset({Action.LISTEN})
SEND: Final = frozenset({Action.SEND})

#: Longest token that is looked at, characters.
TOKEN_MAX: Final = 16_384


class Access:
    """Reads credentials and resolves addresses."""

    def __init__(
        self,
        *,
        admin: Administration,
        publishers: Publishers,
        ring: KeyRing,
        verifier: TokenVerifier,
        clock: Clock,
    ) -> None:
        self._admin = admin
        self._publishers = publishers
        self._ring = ring
        self._verifier = verifier
        self._clock = clock

    # Credentials

    async def by_token(self, token: str, audience: str | None) -> Grant:
        """The grant of a SAS token or JWT; `audience` narrows a JWT's. Raises Unauthorized."""
        if len(token) > TOKEN_MAX:
            raise Unauthorized(f"a token is at most {TOKEN_MAX} characters long")
        if is_sas(token):
            grant = self._of_sas(read_sas(token, self._ring, now_ms=self._clock.now_ms()))
            if self.is_revoked(grant):
                raise Unauthorized("the token has been revoked")
            return grant
        principal = await self._verifier.verify(token)
        segments = () if audience is None else tuple(split_path(audience))
        if segments[-1:] == (MANAGEMENT,):
            segments = segments[:-1]
        return _of_principal(principal, segments)

    async def by_password(self, user: str, password: str) -> Grant:
        """The grant of SASL PLAIN: any user and a token, or a key's name and secret.

        Raises Unauthorized.
        """
        if is_sas(password) or password.count(".") == 2:
            return await self.by_token(password, None)
        key = self._ring.get(user)
        known = key.secret if key is not None else self._ring.current.secret
        same = hmac.compare_digest(known.encode(), password.encode("utf-8", "surrogatepass"))
        if key is None or not same:
            raise Unauthorized("user name or password is wrong")
        return _of_key(key, (), None)

    def is_revoked(self, grant: Grant) -> bool:
        """Whether what a grant stands on has been withdrawn since it was given."""
        origin = grant.origin
        if origin is None:
            return False
        if self._ring.get(origin.key.name) != origin.key:
            return True
        if origin.publisher is not None:
            return self._publishers.get(origin.publisher) is None
        if origin.feed is None:
            return False
        spec = self._admin.directory.get(origin.feed.subscription or "")
        # Of one that does not exist nothing is told here: the attach says so.
        return spec is not None and spec.generation != origin.generation

    def by_certificate(self, organization: str | None) -> Grant | None:
        """The grant of a verified client certificate: its organization is the tenant."""
        if not organization:
            return None
        return Grant(BOTH, (), TenantId(organization), None)

    def _of_sas(self, claims: SasClaims) -> Grant:
        segments = claims.segments
        if len(segments) == 3 and segments[1] == "publishers":
            return self._of_publisher(claims)
        return _of_key(claims.key, segments, claims.until_ms)

    def _of_publisher(self, claims: SasClaims) -> Grant:
        publisher = self._publishers.get(claims.segments[2])
        if publisher is None or publisher.topic.value.lower() != claims.segments[0]:
            raise Unauthorized("the publisher of this token does not exist any more")
        segments = (publisher.topic.value.lower(),)
        topics = {Action.SEND: frozenset({publisher.topic})}
        origin = Origin(claims.key, publisher=publisher.id)
        return Grant(SEND, segments, publisher.tenant, claims.until_ms, topics, origin=origin)

    # Addresses

    def reach_topic(self, address: Address, grant: Grant) -> TopicKey:
        """The topic that a covered address names. Raises NotFound, Unauthorized."""
        if address.kind is not AddressKind.TOPIC or address.topic is None:
            raise NotFound(f"there is no topic {address.path}")
        if grant.tenant is None:
            raise Unauthorized("the key of your token belongs to no tenant and cannot publish")
        return TopicKey(grant.tenant, address.topic)

    def reach_subscription(self, address: Address, grant: Grant) -> Known:
        """The subscription that a covered address names, as far as it is known here.

        Raises NotFound.
        """
        known: Known | None = None
        if address.kind in (AddressKind.SUBSCRIPTION, AddressKind.DEAD_LETTER):
            known = self._admin.find(address.topic, address.subscription) or self._defined(address)
        if known is None or not _reaches(grant, spec_of(known)):
            raise NotFound(f"there is no entity {address.path}")
        return known

    def _defined(self, address: Address) -> SubscriptionSpec | None:
        """The definition of a subscription that another node serves."""
        spec = self._admin.directory.get(address.subscription or "")
        if spec is None or spec.topic not in SUBSCRIBABLE or spec.topic is not address.topic:
            return None
        return spec


def _reaches(grant: Grant, spec: SubscriptionSpec) -> bool:
    """Whether a covering grant is for this tenant, and carries no narrower condition."""
    if grant.tenant is not None and grant.tenant != spec.tenant:
        return False
    return grant.condition in (None, spec.condition)


def _of_key(key: SigningKey, segments: tuple[str, ...], until_ms: int | None) -> Grant:
    """What a key of the ring gives on a resource, by itself or through a token it signed.

    A token for one subscription listens to it and cannot publish; a wider one does what the key
    may. A key without a tenant is the service's own: its tokens name a subscription.
    """
    if len(segments) < 3 or segments[1] != "subscriptions":
        return Grant(BOTH, segments, key.tenant, until_ms, origin=Origin(key))
    segments, generation = _split_generation(segments)
    if key.tenant is None:
        feed = Address.parse("/".join(segments[:3]))
        origin = Origin(key, feed=feed, generation=generation)
    else:
        # Whoever has the key can sign another: such tokens are withdrawn with their key.
        origin = Origin(key)
    return Grant(LISTEN, segments, key.tenant, until_ms, origin=origin)


def _split_generation(segments: tuple[str, ...]) -> tuple[tuple[str, ...], int]:
    """What a feed token covers, and its generation. Raises Unauthorized when that is none."""
    if segments[3:4] != (GENERATION.lower(),):
        return segments, 0
    if len(segments) != 5 or not segments[4].isascii() or not segments[4].isdecimal():
        raise Unauthorized("the resource of the token is not one of this service")
    return segments[:3], int(segments[4])


def _of_principal(principal: Principal, segments: tuple[str, ...]) -> Grant:
    """What a JWT gives: its permissions, on the audience and below."""
    listen = frozenset(t for t in SUBSCRIBABLE if principal.may(Permission.SUBSCRIBE, t))
    send = frozenset(topic for topic in Topic if principal.may(Permission.PUBLISH, topic))
    return Grant(
        actions=BOTH,
        segments=segments,
        tenant=principal.tenant,
        until_ms=principal.until_ms,
        topics={Action.LISTEN: listen, Action.SEND: send},
        condition=principal.condition,
    )
