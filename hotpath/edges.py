"""The edges, given what they need of the service; they are not listening yet."""

from collections.abc import Callable

from hotpath.amqp.listener import AmqpEdge
from hotpath.assembly import Core
from hotpath.auth.jwt import TokenVerifier
from hotpath.rest.services import Services
from hotpath.service.access import Access
from hotpath.service.control import SubscriptionControl
from hotpath.service.feeds import FeedServices
from hotpath.webhooks.edge import WebhookEdge


def feeds_here(core: Core) -> FeedServices:
    """Feeds of the subscriptions that this service serves itself."""
    return FeedServices.here(core.delivering, core.settling, core.committer, core.feed_calls)


def amqp_edge(core: Core, access: Access, feeds: FeedServices | None = None) -> AmqpEdge:
    """The AMQP edge; it hears of keys and tokens that are taken back.

    `feeds` leads to those that others serve, too; left out, there are no others.
    """
    edge = AmqpEdge(
        access=access,
        publishing=core.publishing,
        feeds=feeds or feeds_here(core),
        scheduling=core.scheduling,
        points=core.points,
        settings=core.settings,
        clock=core.clock,
        metrics=core.metrics,
    )
    core.keys.on_retired = core.revoking.on_revoked = edge.recheck
    edge.alternate_with(core.committer, core.delivering)
    return edge


def rest_services(
    core: Core,
    verifier: TokenVerifier,
    *,
    connection_url: Callable[[str], str],
    readiness: Callable[[], list[str]],
    control: SubscriptionControl | None = None,
) -> Services:
    """What stands behind the routes.

    `control` answers for subscriptions that others serve, too; left out, there are no others.
    """
    return Services(
        settings=core.settings,
        admin=core.admin,
        publishing=core.publishing,
        publishers=core.publishers,
        ring=core.ring,
        keys=core.keys,
        revoking=core.revoking,
        looking=core.looking,
        control=control or core.control,
        verifier=verifier,
        clock=core.clock,
        metrics=core.metrics,
        connection_url=connection_url,
        readiness=readiness,
        tracing=core.tracing,
    )


def webhook_edge(core: Core) -> WebhookEdge:
    """The edge that delivers to streams. Raises OSError, ssl.SSLError."""
    return WebhookEdge(
        streams=core.streams,
        delivering=core.delivering,
        settling=core.settling,
        committer=core.committer,
        log=core.log,
        topics=core.topics,
        settings=core.settings,
        clock=core.clock,
        metrics=core.metrics,
    )
