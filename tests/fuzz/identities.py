"""Names, keys and tokens that never change, so that what was recorded once means the same for ever.

A capture holds addresses and signed tokens. The service that it was recorded from and the one that
it is fed to share the ids of subscriptions and publishers, the signing key, the time of day and the
first lock token; so a replayed client gets as far as the real one did.
"""

from functools import cache

from hotpath.assembly import Core
from hotpath.auth.sas import SigningKey, issue
from hotpath.core.locks import LockTable
from hotpath.model.names import TenantId

TENANT = TenantId("interop")
KEY = SigningKey("hotpath", "the key of the fuzzing world, which opens nothing else")
#: Subscriptions that exist; a recorded scenario uses them from the first on.
FEEDS_MAX = 12
PUBLISHERS_MAX = 2
#: When the captures were made, and when their tokens end; Unix seconds.
RECORDED_S = 1_795_305_600
EXPIRES_S = RECORDED_S + 20 * 86_400


def feed_id(number: int) -> str:
    """The id of a subscription."""
    return f"00000000-0000-4000-8000-{number:012d}"


def publisher_id(number: int) -> str:
    """The id of a publisher."""
    return f"00000000-0000-4000-9000-{number:012d}"


def feed(number: int) -> str:
    """The address of a subscription's feed."""
    return f"variables/Subscriptions/{feed_id(number)}"


@cache
def token(path: str) -> str:
    """A token for a resource."""
    return issue(KEY, f"amqp://localhost/{path}", expires_s=EXPIRES_S)


def lock_table(core: Core, dead: bool) -> LockTable:
    """A lock table whose tokens start at one; put in the place of `Core._lock_table`."""
    settings = core.settings
    return LockTable(
        lock_ms=round(settings.lock_seconds * 1000),
        deliveries_max=None if dead else settings.max_deliveries,
        first_serial=1,
    )
