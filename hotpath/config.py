"""Settings: one frozen tree, read once from flags, environment and a TOML file.

Every option of `hotpath serve` is a field here, an environment variable `HOTPATH_<NAME>` and a
TOML key `<name>`; flags win over the environment, the environment over the file. Each field has
a unit in its name or text, a bound and a default. Secrets never show in `repr` or `config`.
"""

import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from typing_extensions import override

#: Names the TOML file to read; there is none by default.
CONFIG_FILE_VARIABLE: Final = "HOTPATH_CONFIG"

_RATE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*/\s*(second|minute|hour)\s*$")
_RATE_SECONDS: Final = {"second": 1.0, "minute": 60.0, "hour": 3600.0}


class Endpoint(str):
    """A `host:port` to listen on; port 0 picks a free one, an IPv6 host stands in brackets."""

    __slots__ = ("host", "port")
    host: str
    port: int

    def __new__(cls, text: str) -> Self:
        """Raises ValueError when `text` is no host:port."""
        host, separator, port = text.strip().rpartition(":")
        if not separator or not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"{text!r} is not HOST:PORT")
        if ":" in host and not (host.startswith("[") and host.endswith("]")):
            raise ValueError(f"{text!r}: put an IPv6 host in brackets")
        self = super().__new__(cls, text.strip())
        self.host = host.strip("[]")
        self.port = int(port)
        return self


def _check_server(server: str) -> None:
    """Raises ValueError for what is no address of a server, or has a secret in it."""
    try:
        parts = urlsplit(server)
        right = parts.scheme in ("nats", "tls") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right = False
        parts = urlsplit("")
    if "@" in server:
        # Not shown: what stands before it is a password or a token.
        raise ValueError("an address has no user in it; use cluster_user, or a file of credentials")
    if not right or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{server!r} is not like nats://HOST:PORT")


class Settings(BaseSettings):
    """All options of the service."""

    model_config = SettingsConfigDict(
        env_prefix="HOTPATH_",
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        validate_default=True,
    )

    # Where
    data_dir: Path = Field(Path("data"), description="Directory of the log, the store and the keys")
    http: Endpoint | None = Field(
        Endpoint("127.0.0.1:8080"), description="Plain HTTP listener, HOST:PORT; empty turns it off"
    )
    https: Endpoint | None = Field(None, description="HTTPS listener, HOST:PORT")
    amqp: Endpoint | None = Field(
        Endpoint("127.0.0.1:5672"), description="Plain AMQP listener, HOST:PORT; empty turns it off"
    )
    amqps: Endpoint | None = Field(None, description="AMQP over TLS listener, HOST:PORT")
    metrics: Endpoint | None = Field(
        None, description="Serve /metrics here instead of on the HTTP port"
    )
    public_host: str | None = Field(
        None, description="Host or host:port that clients see in connectionURL"
    )
    console: bool = Field(True, description="Serve the console at /console and the API's at /docs")

    # Several nodes
    cluster: str | None = Field(
        None,
        max_length=4_096,
        description="Servers of NATS JetStream, nats://HOST:PORT or tls://HOST:PORT, separated by "
        "commas; the service is one node of a cluster then",
    )
    node_id: str | None = Field(
        None,
        pattern="^[A-Za-z0-9_-]{1,64}$",
        description="Name of this node, its own in the cluster; none: the host's name",
    )
    cluster_prefix: str = Field(
        "hotpath",
        pattern="^[A-Za-z0-9][A-Za-z0-9-]{0,31}$",
        description="Begins the names of all that the cluster keeps on the servers",
    )
    cluster_replicas: int | None = Field(
        None,
        ge=1,
        le=5,
        description="Servers that keep a copy of everything; none: as many as named, up to 3",
    )
    cluster_shards: int = Field(
        64, ge=1, le=4_096, description="Parts that subscriptions are divided into, fixed for good"
    )
    cluster_tls_ca: Path | None = Field(
        None, description="PEM file: authorities that the servers' certificates are trusted by"
    )
    cluster_tls_cert: Path | None = Field(
        None, description="PEM file: this node's certificate for the servers"
    )
    cluster_tls_key: Path | None = Field(None, description="PEM file: its private key")
    cluster_credentials: Path | None = Field(
        None, description="File with a JWT and seed for the servers (.creds)"
    )
    cluster_nkey: Path | None = Field(None, description="File with a user's seed for the servers")
    cluster_user: str | None = Field(None, description="User name for the servers")
    cluster_password_file: Path | None = Field(None, description="File with that user's password")
    cluster_token_file: Path | None = Field(None, description="File with a token for the servers")
    cluster_renew_ms: int = Field(
        500, ge=10, le=60_000, description="How often a node shows that it is there, ms"
    )
    cluster_fence_ms: int = Field(
        1_800,
        ge=20,
        le=300_000,
        description="Time without a confirmed sign after which a node serves nothing, ms",
    )
    cluster_takeover_ms: int = Field(
        2_500,
        ge=30,
        le=600_000,
        description="Silence after which others take a node's work over, ms",
    )
    cluster_linger_ms: int = Field(
        10_000,
        ge=0,
        le=300_000,
        description="Time for which a node without confirmed signs goes on handing out, ms",
    )

    # TLS
    tls_cert: Path | None = Field(None, description="PEM file: server certificate and chain")
    tls_key: Path | None = Field(None, description="PEM file: its private key")
    tls_client_ca: Path | None = Field(
        None, description="PEM file: authorities whose client certificates are accepted (EXTERNAL)"
    )

    tls_reload_seconds: float = Field(
        30.0, ge=0, le=86_400, description="How often the TLS files are looked at for changes"
    )

    # Who may call
    jwt_jwks_url: str | None = Field(None, description="URL of the identity provider's key set")
    jwt_public_key: Path | None = Field(None, description="PEM file with a public key for tokens")
    jwt_hs256_secret: SecretStr | None = Field(
        None, description="Shared secret; only with it are HS256 tokens accepted"
    )
    jwt_audience: str | None = Field(None, description="Required `aud` of a token")
    jwt_issuer: str | None = Field(None, description="Required `iss` of a token")
    jwt_leeway_seconds: float = Field(30.0, ge=0, le=600, description="Clock leeway for exp, nbf")
    jwt_dev_key: bool = Field(
        True,
        description="Accept tokens of the development key in the data directory; "
        "off as soon as another source of keys is configured, unless set",
    )
    claim_tenant: str = Field("tenantId", description="Claim that names the tenant")
    claim_scope: str = Field("scope", description="Claim with scopes, separated by blanks")
    claim_permissions: str = Field("permissions", description="Claim with permissions, an array")
    claim_condition: str = Field("condition", description="Claim with a QEL condition")
    claim_partitions: str = Field("partitions", description="Claim with the granted partitions")
    rate_limit: str = Field(
        "50/second", description="Control calls per principal: N/second|minute|hour"
    )
    rate_limit_burst: int = Field(100, ge=1, le=1_000_000, description="Control calls at once")
    rate_limit_principals_max: int = Field(
        100_000, ge=1, description="Principals whose rate is tracked at a time"
    )

    keys_max: int = Field(1_000, ge=2, description="SAS signing keys, retired ones included")

    # Time
    minute: float = Field(
        60.0, gt=0, le=60, description="Length of an API minute in seconds, for trying TTLs"
    )
    reap: bool = Field(True, description="Delete idle subscriptions in this process")

    # Messages and feeds
    lock_seconds: float = Field(60.0, ge=0.05, le=300, description="Life of a peek-lock, seconds")
    max_deliveries: int = Field(
        10, ge=1, le=2000, description="Failed deliveries after which a message is dead-lettered"
    )
    max_message_bytes: int = Field(
        1_048_576, ge=1024, le=104_857_600, description="Largest message, bytes"
    )
    max_request_bytes: int = Field(
        16_777_216, ge=1024, description="Largest JSON body of POST /messages, bytes"
    )
    max_control_bytes: int = Field(65_536, ge=1024, description="Largest control call body, bytes")
    max_array_elements: int = Field(
        10_000, ge=1, le=1_000_000, description="Messages in one JSON array body"
    )
    expired_to_dead_letter: bool = Field(
        False, description="Dead-letter messages whose time to live has ended instead of dropping"
    )
    retention_hours: float = Field(24.0, gt=0, le=87_600, description="Age at which messages go")
    retention_bytes: int | None = Field(
        None, ge=1_048_576, description="Bytes of messages kept in all; none: no bound"
    )
    segment_bytes: int = Field(67_108_864, ge=65_536, description="Size of a log segment, bytes")
    log_sync: str = Field(
        "full", pattern="^(full|normal|off)$", description="When a commit is flushed to disk"
    )

    # Bounds
    max_connections: int = Field(20_000, ge=1, description="AMQP connections at a time")
    max_connections_unauthenticated: int = Field(
        2_000, ge=1, description="AMQP connections without any right at a time"
    )
    max_connections_per_address: int = Field(
        12_000, ge=1, description="AMQP connections from one address at a time"
    )
    max_connections_unauthenticated_per_address: int = Field(
        1_000, ge=1, description="AMQP connections without any right from one address"
    )
    unauthenticated_bytes_max: int = Field(
        262_144, ge=1_024, description="Bytes that an AMQP connection may send without any right"
    )
    unauthenticated_sessions_max: int = Field(
        16, ge=1, description="Sessions of an AMQP connection without any right"
    )
    authenticate_seconds: float = Field(
        60.0, ge=1, description="Time in which a connection must obtain a right"
    )
    handshake_seconds: float = Field(10.0, ge=0.1, description="Time for TLS, SASL and open")
    accepts_per_second: int = Field(
        250, ge=1, description="AMQP connections that a listener accepts, a second"
    )
    fair_turn_ms: float = Field(
        1.0,
        ge=0.1,
        le=1_000,
        description="Time at once for connections without useful work, half of it while others do some, ms",
    )
    strikes_max: int = Field(
        20, ge=0, description="Misbehaved connections at which an address is barred; 0: never"
    )
    strikes_seconds: float = Field(
        120.0, ge=1, le=86_400, description="Time in which as many strikes are forgotten"
    )
    bar_seconds: float = Field(
        60.0, ge=1, le=86_400, description="Time for which an address is barred"
    )
    never_barred: str | None = Field(
        "127.0.0.1,::1", description="Addresses that are never barred, separated by commas"
    )
    max_links: int = Field(100_000, ge=1, description="Links of all AMQP connections")
    max_sessions: int = Field(50_000, ge=1, description="Sessions of all AMQP connections")
    max_http_connections: int = Field(20_000, ge=1, description="HTTP connections at a time")
    max_http_connections_per_address: int = Field(
        12_000, ge=1, description="HTTP connections from one address at a time"
    )
    max_http_connections_unauthenticated: int = Field(
        4_000, ge=1, description="HTTP connections that have shown no valid token yet"
    )
    max_http_connections_unauthenticated_per_address: int = Field(
        1_000, ge=1, description="HTTP connections from one address without a valid token"
    )
    http_header_seconds: float = Field(
        10.0, ge=0.1, le=3_600, description="Time for the whole head of an HTTP request"
    )
    http_body_seconds: float = Field(
        60.0, ge=0.1, le=3_600, description="Time for a request's body, or a stream's next part"
    )
    http_stream_seconds: float = Field(
        3_600.0, ge=0.1, le=86_400, description="Time for one NDJSON stream as a whole"
    )
    http_stream_bytes_max: int = Field(
        17_179_869_184, ge=1_024, description="Bytes of one NDJSON stream"
    )
    max_links_per_connection: int = Field(4_096, ge=1, description="Links of one connection")
    refused_links_max: int = Field(
        64, ge=1, description="Refused links in a row at which a connection is closed"
    )
    max_sessions_per_connection: int = Field(4_096, ge=1, le=65_535, description="Sessions of one")
    amqp_idle_seconds: float = Field(
        240.0, ge=1, le=86_400, description="Silence after which a peer counts as gone"
    )
    amqp_frame_bytes: int = Field(65_536, ge=512, le=1_048_576, description="Largest AMQP frame")
    output_bytes_max: int = Field(
        1_048_576, ge=16_384, description="Unsent bytes at which a connection gets no more"
    )
    output_total_bytes_max: int = Field(
        268_435_456, ge=1_048_576, description="Unsent bytes of all AMQP connections together"
    )
    publish_credit: int = Field(1_000, ge=1, le=100_000, description="Credit of a publishing link")
    pending_bytes_max: int = Field(
        67_108_864, ge=1_048_576, description="Bytes waiting for the log before publishers wait"
    )
    tail_bytes_max: int = Field(
        16_777_216, ge=1_048_576, description="Recent messages kept in memory, bytes in all"
    )
    ready_max: int = Field(
        10_000, ge=100, description="Matches queued in memory for one subscription"
    )
    locks_max: int = Field(20_000, ge=1, description="Unsettled messages of one subscription")
    subscriptions_per_tenant_max: int = Field(
        200_000, ge=1, description="Subscriptions of one tenant"
    )
    publishers_per_tenant_max: int = Field(10_000, ge=1, description="Publishers of one tenant")
    receivers_per_subscription_max: int = Field(
        1_000, ge=1, description="Links on one subscription"
    )
    scheduled_max: int = Field(100_000, ge=1, description="Scheduled messages of one tenant")
    scheduled_bytes_max: int = Field(
        268_435_456, ge=1_024, description="Bytes of one tenant's scheduled messages"
    )
    dead_letters_max: int = Field(
        100_000, ge=1, description="Dead letters of one subscription at which no more are set aside"
    )
    dead_letter_bytes_max: int = Field(
        4_294_967_296,
        ge=1_024,
        description="Bytes of one tenant's dead letters at which no more are set aside",
    )
    streams_per_tenant_max: int = Field(10_000, ge=1, description="Webhook streams of one tenant")
    points_per_stream_max: int = Field(100_000, ge=1, description="Points of one webhook stream")
    stream_points_per_tenant_max: int = Field(
        1_000_000, ge=1, description="Points of all webhook streams of one tenant"
    )
    points_per_tenant_max: int = Field(
        1_000_000, ge=1, description="Points of one tenant whose state is kept"
    )
    point_value_chars_max: int = Field(
        8_192, ge=1, le=1_048_576, description="Longest value of a point, characters"
    )
    max_stream_bytes: int = Field(
        8_388_608, ge=1024, description="Largest body of a call on a stream's points, bytes"
    )
    webhook_secret_key_file: Path | None = Field(
        None,
        description="File with the key that seals webhook secrets, 32 bytes in base64; "
        "without it one is made in the data directory",
    )
    webhook_allow_http: bool = Field(
        False, description="Let webhook URLs be http, for development; else they must be https"
    )
    webhook_allow_networks: str | None = Field(
        None,
        max_length=8_192,
        description="Networks (CIDR, separated by commas) that are not public and yet may receive",
    )
    webhook_retry_seconds: str = Field(
        "5,30,120,600,1800,7200,18000,36000",
        max_length=1_024,
        description="Delays between the attempts to deliver an event, each drawn from 20 % around",
    )
    webhook_retry_after_seconds_max: float = Field(
        3_600.0, ge=0, le=604_800, description="Longest Retry-After of an endpoint that is heeded"
    )
    webhook_disable_hours: float = Field(
        120.0, gt=0, le=87_600, description="Time of failing after which a stream is disabled"
    )
    webhook_requests_max: int = Field(
        512, ge=2, le=100_000, description="Webhook requests under way at a time, all streams"
    )
    webhook_requests_per_stream_max: int = Field(
        16, ge=1, le=10_000, description="Webhook requests under way at a time, one stream"
    )
    webhook_window: int = Field(
        2_000, ge=1, le=1_000_000, description="Events of one stream sent or waiting for a retry"
    )
    webhook_history: int = Field(
        100, ge=1, le=100_000, description="Delivery attempts remembered of one stream"
    )
    webhook_tls_ca: Path | None = Field(
        None, description="PEM file: further authorities that webhook endpoints are trusted by"
    )
    drain_seconds: float = Field(10.0, ge=0, le=300, description="Time for a clean stop, seconds")
    trace_endpoint: str | None = Field(
        None,
        max_length=2_048,
        pattern="^https?://[^ ]+$",
        description="OTLP/HTTP address of a trace collector; none: no tracing",
    )
    trace_ratio: float = Field(
        0.0, ge=0, le=1, description="Share of the untraced control calls that begin a trace"
    )
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Log detail")
    log_json: bool = Field(False, description="Logs as JSON lines")
    event_loop: Literal["asyncio", "uvloop"] = Field(
        "asyncio", description="Event loop; uvloop must be installed (hotpath[uvloop])"
    )

    @field_validator("http", "https", "amqp", "amqps", "metrics", mode="before")
    @classmethod
    def _read_endpoint(cls, value: object) -> object:
        if isinstance(value, str) and value.strip().lower() in {"", "off", "none"}:
            return None
        return Endpoint(value) if isinstance(value, str) else value

    @field_validator("rate_limit")
    @classmethod
    def _check_rate(cls, value: str) -> str:
        if not _RATE.match(value):
            raise ValueError(f"{value!r} is not like 50/second")
        return value

    @field_validator("webhook_allow_networks")
    @classmethod
    def _check_networks(cls, value: str | None) -> str | None:
        for network in (value or "").split(","):
            if network.strip():
                ip_network(network.strip())
        return value

    @field_validator("webhook_retry_seconds")
    @classmethod
    def _check_steps(cls, value: str) -> str:
        steps = [float(step) for step in value.split(",") if step.strip()]
        if len(steps) > 100 or not all(0 <= step <= 604_800 for step in steps):
            raise ValueError("give up to 100 delays from 0 to 604800 seconds")
        return value

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.https or self.amqps) and not (self.tls_cert and self.tls_key):
            raise ValueError("https and amqps need tls_cert and tls_key")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("tls_cert and tls_key belong together")
        return self

    @field_validator("cluster", mode="before")
    @classmethod
    def _read_servers(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        servers = [server.strip() for server in value.split(",") if server.strip()]
        for server in servers:
            _check_server(server)
        return ",".join(servers) or None

    @model_validator(mode="after")
    def _check_cluster(self) -> Self:
        if 2 * self.cluster_renew_ms > self.cluster_fence_ms:
            raise ValueError("cluster_fence_ms must be twice cluster_renew_ms at least")
        if self.cluster_fence_ms + self.cluster_renew_ms > self.cluster_takeover_ms:
            raise ValueError(
                "cluster_takeover_ms must be at least cluster_fence_ms and cluster_renew_ms together"
            )
        return self

    @property
    def cluster_servers(self) -> tuple[str, ...]:
        """Addresses of the servers; none: the service is alone."""
        return tuple(self.cluster.split(",")) if self.cluster else ()

    @property
    def rate_per_second(self) -> float:
        """Control calls per second that one principal may make on average."""
        match = _RATE.match(self.rate_limit)
        if match is None:
            raise ValueError(self.rate_limit)
        return float(match[1]) / _RATE_SECONDS[match[2]]

    @property
    def uses_dev_key(self) -> bool:
        """Whether tokens of the development key count."""
        if "jwt_dev_key" in self.model_fields_set:
            return self.jwt_dev_key
        return not (self.jwt_jwks_url or self.jwt_public_key or self.jwt_hs256_secret)

    def minutes_ms(self, minutes: float) -> int:
        """An API duration in milliseconds, scaled by `minute`."""
        return round(minutes * self.minute * 1000)

    @classmethod
    @override
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then environment, then the TOML file that HOTPATH_CONFIG names."""
        path = os.environ.get(CONFIG_FILE_VARIABLE)
        if path:
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, path)
        return init_settings, env_settings
