"""What a connection stands on: its grants, the rights of its links, and when they end.

A connection that nobody vouches for (no grant yet, or none any more) has some time to put a token;
then it is closed. A link lasts as long as the grant it was attached with, or a later one that
reaches the same.
"""

from collections.abc import Callable

from hotpath.amqp.alarm import Alarm
from hotpath.amqp.conditions import UNAUTHORIZED, Condition
from hotpath.amqp.rights import LinkRight
from hotpath.auth.rights import Grant, Grants
from hotpath.config import Settings
from hotpath.ports import Clock


class Standing:
    """See the module.

    Attributes:
        grants: What the tokens of the connection allow.
    """

    __slots__ = ("_alarm", "_claim_by_ms", "_clock", "_patience_ms", "_rights", "grants")

    def __init__(self, settings: Settings, clock: Clock, alarm: Alarm) -> None:
        self.grants = Grants()
        self._clock = clock
        self._alarm = alarm
        self._rights: dict[LinkRight, None] = {}
        self._patience_ms = round(settings.authenticate_seconds * 1000)
        self._claim_by_ms: int | None = clock.ticks_ms() + self._patience_ms

    def watch(self, right: LinkRight) -> None:
        """End a link with its right."""
        self._rights[right] = None
        if right.until_ms is not None:
            self._alarm.set_by_wall(right.until_ms)

    def forget(self, right: LinkRight) -> None:
        """A link is gone."""
        self._rights.pop(right, None)

    def end_right(self, right: LinkRight) -> None:
        """Detach a link whose right has ended."""
        if right.ended(self._clock.now_ms()):
            _detach(right, "has expired")

    def admit(self, audience: str, grant: Grant, on_first: Callable[[], None]) -> bool:
        """Add a grant, and let links that it covers last as long as it.

        `on_first` hears when nobody vouched for the connection before. False: there are too many.
        """
        now_ms = self._clock.now_ms()
        self.grants.prune(now_ms)
        if not self.grants.put(audience, grant):
            return False
        for right in self._rights:
            right.extend(grant, now_ms)
        if self._claim_by_ms is not None:
            self._claim_by_ms = None
            on_first()
        if grant.until_ms is not None:
            self._alarm.set_by_wall(grant.until_ms)
        return True

    def drop_revoked(self, is_revoked: Callable[[Grant], bool]) -> None:
        """Tokens have been revoked: end the links that stand on one of them, and on no other."""
        now_ms = self._clock.now_ms()
        self.grants.drop(is_revoked)
        for right in [right for right in self._rights if is_revoked(right.grant)]:
            others = self.grants.all_covering(right.address, right.action, now_ms)
            other = next((grant for grant in others if right.reaches(grant)), None)
            if other is not None:
                right.stand_on(other)
            else:
                _detach(right, "has been revoked")

    def look(self, *, running: bool) -> Condition | None:
        """End links whose token is over; why the connection must be closed, or None.

        `running`: the connection is past its handshake, and not on its way out.
        """
        wall_ms = self._clock.now_ms()
        for right in [right for right in self._rights if right.ended(wall_ms)]:
            self.end_right(right)
        self.grants.prune(wall_ms)
        if self._claim_by_ms is not None:
            if self._claim_by_ms > self._clock.ticks_ms():
                return None
            self._claim_by_ms = None
            return Condition(UNAUTHORIZED, "no valid token was put in time", {"claim": "any"})
        if running and not len(self.grants):
            self._claim_by_ms = self._clock.ticks_ms() + self._patience_ms
        return None

    def next_deadline_ms(self) -> int | None:
        """When to `look` next, monotonic; None: not by the clock."""
        ends = [right.until_ms for right in self._rights if right.until_ms is not None]
        deadlines = []
        if self._claim_by_ms is not None:
            deadlines.append(self._claim_by_ms)
        else:
            end_ms = self.grants.next_end_ms()
            ends += [] if end_ms is None else [end_ms]
        if ends:
            clock = self._clock
            deadlines.append(clock.ticks_ms() + max(0, min(ends) - clock.now_ms()))
        return min(deadlines, default=None)


def _detach(right: LinkRight, why: str) -> None:
    if right.end is not None:
        text = f"the token for {right.address.path[:200]} {why}"
        right.end.close(Condition(UNAUTHORIZED, text, {"claim": right.action.value}))
