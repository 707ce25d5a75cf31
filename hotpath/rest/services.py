"""What the REST edge is given by the composition root."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hotpath.auth.jwt import TokenVerifier
from hotpath.auth.sas import KeyRing
from hotpath.config import Settings
from hotpath.ports import Clock
from hotpath.service.admin import Administration
from hotpath.service.control import SubscriptionControl
from hotpath.service.keys import KeyRotation
from hotpath.service.look import Looking
from hotpath.service.publish import Publishing
from hotpath.service.publishers import Publishers
from hotpath.service.revoke import Revoking
from hotpath.telemetry import Metrics

if TYPE_CHECKING:
    from hotpath.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Services:
    """Everything behind the routes."""

    settings: Settings
    admin: Administration
    publishing: Publishing
    publishers: Publishers
    ring: KeyRing
    keys: KeyRotation
    revoking: Revoking
    looking: Looking
    control: SubscriptionControl
    verifier: TokenVerifier
    clock: Clock
    metrics: Metrics
    connection_url: Callable[[str], str]
    """The public URL of an AMQP address."""
    readiness: Callable[[], list[str]]
    """Why the service cannot accept or deliver now, in words; empty when it can."""
    tracing: "Tracing | None" = None
    """Makes spans of calls; None when tracing is off."""
