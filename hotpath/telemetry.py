"""Logs and metrics.

Logs are one wide line per event on stderr, as `key=value` text or JSON. Values under the keys of
`SECRET_KEYS` never leave the process. Metrics are Prometheus counters and gauges of one registry
per service; the hot path counts by the batch, never by the message.
"""

import json
import logging
import sys
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from typing_extensions import override

SECRET_KEYS: Final = frozenset({"token", "sas_token", "key", "secret", "password", "authorization"})
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


def get_logger(name: str) -> logging.Logger:
    """The logger of a part of the service."""
    return logging.getLogger(name)


class _WideFormatter(logging.Formatter):
    """Renders a record and its extra fields on one line."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    @override
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        for key, value in record.__dict__.items():
            if key not in _STANDARD:
                fields[key] = "***" if key in SECRET_KEYS else value
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        if self._as_json:
            return json.dumps(fields, default=str)
        head = f"{fields.pop('at')} {fields.pop('level'):<7} {fields.pop('event')}"
        return head + "".join(f" {key}={_text(value)}" for key, value in fields.items())


def _text(value: object) -> str:
    """A field's value on one line, quoted where it holds blanks."""
    text = str(value)
    plain = text.isprintable() and " " not in text and '"' not in text
    return text if plain and text else json.dumps(text)


def set_up_logging(level: str, *, as_json: bool) -> None:
    """Send the service's logs to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_WideFormatter(as_json=as_json))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # One line a request is the access log's own business; ours are wider.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


class Seldom:
    """Lets one report through in a while, so that what happens often fills no log."""

    def __init__(self, every_ms: int) -> None:
        self._every_ms = every_ms
        self._last_ms: int | None = None
        self._kept_back = 0

    def take(self, now_ms: int) -> int | None:
        """How many were kept back since the last report; None: keep this one back too."""
        if self._last_ms is not None and now_ms - self._last_ms < self._every_ms:
            self._kept_back += 1
            return None
        kept_back, self._kept_back = self._kept_back, 0
        self._last_ms = now_ms
        return kept_back


class Metrics:
    """All metrics of one service. Names and meanings are listed in docs/metrics.md."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._add_messages()
        self._add_subscriptions()
        self._add_edges()
        self._add_webhooks()

    def _add_messages(self) -> None:
        """Of messages, from the log to their settlement."""
        self.messages_published = self._counter(
            "hotpath_messages_published",
            "Messages made durable, by topic and way in",
            "topic",
            "via",
        )
        self.messages_refused = self._counter(
            "hotpath_messages_refused", "Messages refused, by way in and reason", "via", "reason"
        )
        self.deliveries = self._counter(
            "hotpath_deliveries", "Deliveries handed to receivers, by topic", "topic"
        )
        self.settlements = self._counter(
            "hotpath_settlements", "Outcomes of deliveries, by outcome", "outcome"
        )
        self.locks_expired = self._counter(
            "hotpath_locks_expired", "Messages that went back because their lock ended"
        )
        self.dead_letters = self._counter(
            "hotpath_dead_letters", "Messages copied to dead letters, by reason", "reason"
        )
        self.dead_letters_refused = self._counter(
            "hotpath_dead_letters_refused",
            "Messages that were not set aside because there are too many dead letters",
        )
        self.commits = self._counter("hotpath_commits", "Commits of the log")
        self.commit_failures = self._counter("hotpath_commit_failures", "Commits that failed")
        self.commit_seconds = Histogram(
            "hotpath_commit_seconds",
            "Time from handing a commit to the log until it is durable",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5),
            registry=self.registry,
        )
        self.tail_bytes = self._gauge("hotpath_tail_bytes", "Payload bytes kept in memory")
        self.log_damage = self._counter(
            "hotpath_log_damage", "Log entries that failed their checksum"
        )

    def _add_subscriptions(self) -> None:
        """Of subscriptions and who reads them."""
        self.subscriptions_created = self._counter(
            "hotpath_subscriptions_created", "Subscriptions created, by topic", "topic"
        )
        self.subscriptions_ended = self._counter(
            "hotpath_subscriptions_ended", "Subscriptions ended, by cause", "cause"
        )
        self.subscriptions = self._gauge("hotpath_subscriptions", "Subscriptions that exist")
        self.receivers = self._gauge("hotpath_receivers", "Receivers attached to feeds")

    def _add_edges(self) -> None:
        """Of connections and calls."""
        self.connections = self._gauge("hotpath_amqp_connections", "AMQP connections", "listener")
        self.refused_connections = self._counter(
            "hotpath_amqp_connections_refused", "AMQP connections refused, by cause", "cause"
        )
        self.http_connections = self._gauge("hotpath_http_connections", "HTTP connections")
        self.refused_http_connections = self._counter(
            "hotpath_http_connections_refused", "HTTP connections refused, by cause", "cause"
        )
        self.requests = self._counter(
            "hotpath_http_requests", "Control calls, by route and status", "route", "status"
        )
        self.request_seconds = Histogram(
            "hotpath_http_request_seconds",
            "Time to answer a control call",
            ("route",),
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
            registry=self.registry,
        )

    def _add_webhooks(self) -> None:
        """Of points, streams and their endpoints."""
        self.points = self._gauge("hotpath_points", "Points whose state is in memory")
        self.streams = self._gauge("hotpath_streams", "Webhook streams, by status", "status")
        self.webhook_events = self._counter(
            "hotpath_webhook_events", "Events of webhook streams that are done with", "result"
        )
        self.webhook_attempts = self._counter(
            "hotpath_webhook_attempts", "Attempts to deliver to a webhook, by result", "result"
        )
        self.webhook_seconds = Histogram(
            "hotpath_webhook_seconds",
            "Time of one attempt to deliver to a webhook",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
            registry=self.registry,
        )
        self.webhook_in_flight = self._gauge(
            "hotpath_webhook_in_flight", "Webhook requests under way"
        )

    def add_cluster(self) -> None:
        """Of a node among others; a service that is alone has none of these."""
        self.shards = self._gauge("hotpath_cluster_shards", "Shards that this node has")
        self.nodes = self._gauge("hotpath_cluster_nodes", "Nodes that are there, this one included")
        self.fenced = self._gauge(
            "hotpath_cluster_fenced",
            "1 while this node may serve nothing, because it is not confirmed",
        )
        self.shard_events = self._counter(
            "hotpath_cluster_shard_events", "What has happened to shards on this node", "event"
        )
        self.followed = self._gauge("hotpath_cluster_topics", "Topics that this node follows")
        self.relay_links = self._gauge(
            "hotpath_cluster_relay_links",
            "Receivers of subscriptions served elsewhere: here (asking), and of others here (owner)",
            "side",
        )
        self.relay_traffic = self._gauge(
            "hotpath_cluster_relay_bytes",
            "Bytes that nodes have sent each other for such receivers, since the start",
            "direction",
        )
        self.relay_calls = self._gauge(
            "hotpath_cluster_relay_calls",
            "Calls to other nodes for such receivers, since the start",
            "outcome",
        )

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(name, meaning, labels, registry=self.registry)
