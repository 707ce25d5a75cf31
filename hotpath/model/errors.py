"""What can go wrong, as the caller is told.

    HotpathError
    ├── Unauthorized      no valid token
    ├── Forbidden         a valid token that does not cover this
    ├── NotFound          no such entity, or none that the caller may know of
    ├── Invalid           the request is wrong; `violations` names every fault
    ├── TooLarge          a message or body over its limit
    ├── TooMany           over a rate limit; `retry_after_s` says when to come back
    ├── LimitReached      a bound of the configuration is reached
    ├── Unsupported       a feature this service leaves out on purpose
    ├── LockLost          a settlement came after its lock had ended
    └── Unavailable       the log or store cannot take the work now
        └── LogFull       for want of space

Two files map these to the wire: `hotpath/rest/problems.py` and `hotpath/amqp/conditions.py`.
"""

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Violation:
    """One fault of a request: what is wrong, where, and what helps."""

    detail: str
    pointer: str | None = None
    meta: dict[str, object] = field(default_factory=dict)


class HotpathError(Exception):
    """Base of all errors that a client is told about."""

    code: ClassVar[str] = "error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Unauthorized(HotpathError):
    """No token, or one that is expired, tampered with or not ours."""

    code = "unauthorized"


class Forbidden(HotpathError):
    """The token is valid and does not cover what was asked."""

    code = "forbidden"

    def __init__(self, detail: str, *, scope: str | None = None) -> None:
        super().__init__(detail)
        self.scope = scope


class NotFound(HotpathError):
    """The entity does not exist, or belongs to somebody else."""

    code = "not-found"


class Invalid(HotpathError):
    """The request is wrong in one or more places."""

    code = "invalid"

    def __init__(self, violations: list[Violation]) -> None:
        super().__init__("; ".join(violation.detail for violation in violations))
        self.violations = violations


class TooLarge(HotpathError):
    """A message or body over its limit, which `limit_bytes` tells."""

    code = "too-large"

    def __init__(self, detail: str, *, limit_bytes: int) -> None:
        super().__init__(detail)
        self.limit_bytes = limit_bytes


class TooMany(HotpathError):
    """Over the rate limit of control calls."""

    code = "too-many"

    def __init__(self, detail: str, *, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class LimitReached(HotpathError):
    """A bound of the configuration is reached: subscriptions, links, locks."""

    code = "limit-reached"


class Unsupported(HotpathError):
    """Asked for something hotpath leaves out on purpose (sessions, transactions)."""

    code = "unsupported"


class LockLost(HotpathError):
    """The lock had ended before the settlement came; the message comes again."""

    code = "lock-lost"


class Unavailable(HotpathError):
    """The log or the store cannot take work now (a failing disk, shutting down); try again."""

    code = "unavailable"


class LogFull(Unavailable):
    """There is no space for more messages; retention or the operator will make some."""

    code = "log-full"
