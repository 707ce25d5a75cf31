"""Instants with nanoseconds, and the ISO 8601 texts that name them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final, final

from typing_extensions import override

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_SECOND: Final = 1_000_000_000
_DAY: Final = 86_400 * _SECOND

# The extended format of ISO 8601 with a calendar date. Week dates, ordinal dates and the
# format without separators are not read: they are easily mistaken for something else.
_ISO = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
    r"(?:([Zz])|([+-])([0-9]{2})(?::?([0-9]{2}))?)?)?"
)


@final
class DateTime(int):
    """An instant: nanoseconds since 1970-01-01T00:00:00Z.

    An `int` by construction, so that it costs nothing to make from a wire timestamp and
    compares at the speed of one; the language never takes it for a number.
    """

    __slots__ = ()

    @classmethod
    def from_milliseconds(cls, milliseconds: int) -> DateTime:
        """Make an instant of milliseconds since the epoch (AMQP 1.0 §1.6.17)."""
        return cls(milliseconds * 1_000_000)

    @classmethod
    def from_datetime(cls, moment: datetime) -> DateTime:
        """Make an instant of a `datetime`; one without an offset is UTC."""
        if moment.utcoffset() is None:
            moment = moment.replace(tzinfo=UTC)
        apart = moment - _EPOCH
        seconds = apart.days * 86_400 + apart.seconds
        return cls(seconds * _SECOND + apart.microseconds * 1000)

    def isoformat(self) -> str:
        """Write the instant in UTC with as many decimals as it needs."""
        seconds, nanoseconds = divmod(int(self), _SECOND)
        try:
            moment = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None)
        except OverflowError:
            return "before year 1" if self < 0 else "after year 9999"
        fraction = f".{nanoseconds:09}".rstrip("0").rstrip(".")
        return f"{moment.isoformat(timespec='seconds')}{fraction}Z"

    @override
    def __repr__(self) -> str:
        return f"DateTime({self.isoformat()!r})"

    __str__ = __repr__


def parse_datetime(text: str) -> DateTime | None:
    """Read an ISO 8601 dateTime, or give None if the text is none.

    The date is needed. The time may end with the minutes; without one it is midnight. No
    offset means UTC. Decimals beyond nanoseconds are dropped. There is no 24:00 and no leap
    second: neither has an instant of its own.
    """
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, off_hours, off_minutes = (
        found.groups()
    )
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    seconds = _clock(hour, minute, second)
    offset = _clock(off_hours, off_minutes, None)
    if seconds is None or offset is None:
        return None
    seconds -= -offset if sign == "-" else offset
    nanoseconds = int(fraction[:9].ljust(9, "0")) if fraction else 0
    return DateTime(days * _DAY + seconds * _SECOND + nanoseconds)


def _clock(hour: str | None, minute: str | None, second: str | None) -> int | None:
    """Give the seconds since midnight, or None if no clock shows that."""
    hours, minutes, seconds = int(hour or 0), int(minute or 0), int(second or 0)
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    return hours * 3600 + minutes * 60 + seconds
