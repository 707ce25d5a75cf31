"""One node: what is otherwise than in the service alone."""

import platform
import re
from dataclasses import replace
from typing import Final

from typing_extensions import override

from hotpath import __version__
from hotpath.amqp.listener import AmqpEdge
from hotpath.app import App
from hotpath.auth.jwt import TokenVerifier
from hotpath.auth.keys import DEVELOPMENT_KEY_FILE
from hotpath.cluster.cards import NodeCard, new_run
from hotpath.cluster.core import ClusterCore
from hotpath.cluster.membership import NodeIdTaken
from hotpath.cluster.relay.urls import OwnerUrls
from hotpath.clustered.deliveries import ClusterDeliveries
from hotpath.config import Settings
from hotpath.edges import amqp_edge, rest_services
from hotpath.ports import Clock, LogFailure
from hotpath.rest.services import Services
from hotpath.service.access import Access
from hotpath.storage.jetstream.bus import NatsBus
from hotpath.storage.jetstream.coordination import KvCoordination
from hotpath.storage.jetstream.link import Link
from hotpath.storage.jetstream.log import JetStreamLog
from hotpath.storage.jetstream.records import JetStreamStore
from hotpath.storage.jetstream.settings import link_options, log_options
from hotpath.webhooks.edge import WebhookEdge
from hotpath.webhooks.interface import WebhookDeliveries

#: How long clients of a node that leaves get to answer the end of their connections, seconds:
#: until then it hands nothing over.
GOODBYE_S: Final = 2.0


def node_id(settings: Settings) -> str:
    """The name of this node: as configured, or the host's."""
    if settings.node_id is not None:
        return settings.node_id
    return re.sub(r"[^A-Za-z0-9_-]", "-", platform.node())[:64] or "node"


def check_shared(settings: Settings) -> None:
    """Raises ValueError when the nodes of a cluster would not have the same keys."""
    if settings.webhook_secret_key_file is None:
        raise ValueError(
            "the nodes of a cluster need the same key for webhook secrets: give all of them the "
            "same --webhook-secret-key-file (openssl rand -base64 32 makes one)"
        )
    if settings.uses_dev_key and not (settings.data_dir / DEVELOPMENT_KEY_FILE).exists():
        raise ValueError(
            "the nodes of a cluster must accept the same tokens: configure where they come from "
            "(--jwt-jwks-url, --jwt-public-key or --jwt-hs256-secret), or put the same "
            f"{DEVELOPMENT_KEY_FILE} into every --data-dir"
        )


class ClusterApp(App):
    """One node: the core on JetStream, the edges, the reaper, and the way to the other nodes."""

    core: ClusterCore

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        """Raises LogFailure or ValueError when the settings cannot work."""
        check_shared(settings)
        self._name = node_id(settings)
        self._options = log_options(settings)
        self._link = Link(link_options(settings, name=f"hotpath {self._name}"))
        self._store = JetStreamStore(self._link, self._options)
        self._bucket = KvCoordination(self._link, bucket=f"{settings.cluster_prefix}-nodes")
        super().__init__(settings, clock=clock)

    @override
    def _make_core(self) -> ClusterCore:
        """The service on the servers, not open yet."""
        card = NodeCard(self._name, new_run(), version=__version__, started_ms=self.clock.now_ms())
        core = ClusterCore(
            self.settings,
            log=JetStreamLog(self._link, self._options, node=self._name, on_damage=self._on_damage),
            store=self._store,
            coordination=self._bucket,
            bus=NatsBus(self._link),
            clock=self.clock,
            card=card,
            is_connected=lambda: self._link.is_connected,
        )
        core.leave_server = self._link.leave_server
        return core

    @override
    async def _open(self) -> None:
        await self._link.open()
        self._exits.push_async_callback(self._link.close)
        await self._bucket.open(replicas=self._options.replicas)
        await self._store.open()
        await super()._open()
        self._exits.push_async_callback(self.core.silence)
        await self.core.follow()

    @override
    def _amqp_edge(self, access: Access) -> AmqpEdge:
        return amqp_edge(self.core, access, self.core.relay.feeds)

    @override
    def _rest_services(self, verifier: TokenVerifier) -> Services:
        core = self.core
        return rest_services(
            core,
            verifier,
            connection_url=OwnerUrls(core.ownership, self.connection_url),
            readiness=self._unready,
            control=core.relay.control,
        )

    @override
    def _deliveries(self, webhooks: WebhookEdge) -> WebhookDeliveries:
        return ClusterDeliveries(webhooks, self.core.streams, self.core.neighbours)

    @override
    async def _join(self) -> None:
        core = self.core
        core.membership.card = replace(
            core.membership.card,
            amqp_url=self.connection_url("").rstrip("/"),
            http_url=self._urls.get("https") or self._urls.get("http") or "",
        )
        self._exits.push_async_callback(self._leave)
        try:
            await core.join()
        except NodeIdTaken as error:
            raise LogFailure(f"{error}; give every node its own --node-id") from error

    async def _leave(self) -> None:
        # A lost connection is what every client comes back from, at another node; a link that is
        # sent away because its shard moves is not.
        if self.amqp is not None:
            await self.amqp.stop(min(self.settings.drain_seconds, GOODBYE_S))
        await self.core.leave(within_ms=round(self.settings.drain_seconds * 1000))

    @override
    def _unready(self) -> list[str]:
        reasons = super()._unready()
        membership = self.core.membership
        is_silent = membership.silent_ms > membership.timings.fence_ms
        if not self._link.is_connected:
            reasons.append("there is no connection to the servers of the cluster")
        elif is_silent or membership.is_fenced():
            reasons.append("the cluster does not confirm that this node is there")
        return reasons
