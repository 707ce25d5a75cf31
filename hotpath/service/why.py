"""What became of one message in one subscription, and why.

The answer is put together from what is there anyway: the log, the filter, the cursor with what is
beyond it, the locks and the dead letters. Nothing is recorded for it, so it costs nothing until it
is asked for; what left no trace is said in those words.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

import qel
from hotpath.core.locks import FOREVER, Holding
from hotpath.core.locks import State as LockState
from hotpath.core.subscription import Subscription
from hotpath.model.errors import Unavailable
from hotpath.model.message import DeadLetter
from hotpath.ports import Clock, LogFailure, MessageLog
from hotpath.service.look import Looking, Seen
from hotpath.service.reasons import Judge, Judgement
from hotpath.service.settle import Settling
from hotpath.wire.message import expires_ms
from hotpath.wire.properties import Puller


class Fate(StrEnum):
    """Where a message is, seen from a subscription."""

    NO_SUCH_MESSAGE = "noSuchMessage"
    BEFORE_START = "beforeStart"
    REMOVED = "removed"
    NOT_MATCHED = "notMatched"
    WAITING = "waiting"
    BEHIND = "behind"
    LOCKED = "locked"
    DEFERRED = "deferred"
    EXPIRED = "expired"
    DEAD_LETTERING = "deadLettering"
    DEAD_LETTERED = "deadLettered"
    SETTLED = "settled"


_OF_LOCKS = {
    LockState.LOCKED: Fate.LOCKED,
    LockState.RETURNED: Fate.WAITING,
    LockState.DEFERRED: Fate.DEFERRED,
    LockState.DYING: Fate.DEAD_LETTERING,
}

_DETAILS = {
    Fate.BEFORE_START: "It was in the log before the subscription began, which did not ask for it.",
    Fate.REMOVED: "The log does not hold it any more: retention has taken it, or it was never "
    "written. What became of it before left no trace.",
    Fate.NOT_MATCHED: "The filter did not let it through.",
    Fate.WAITING: "It matched and waits for a receiver.",
    Fate.BEHIND: "It matches. The subscription is behind and has not come to it: it reads on while "
    "a receiver asks for more.",
    Fate.LOCKED: "A receiver has it under lock and has not settled it.",
    Fate.DEFERRED: "A receiver has set it aside; it comes only to one that asks for its number.",
    Fate.EXPIRED: "It matched and nobody received it before its time to live was over; it leaves "
    "when its turn comes.",
    Fate.DEAD_LETTERING: "It is on its way to the dead letters.",
    Fate.DEAD_LETTERED: "It was set aside and lies in the dead letters.",
    Fate.SETTLED: "It matched and is settled: a receiver accepted it, or it has left the dead "
    "letters since.",
}
_SETTLED_AFTER_LIFE = (
    "It matched and is settled: a receiver accepted it, or it left when its time to live was over."
)
_OUT_OF_SIGHT = "It lies outside of what your token may see."


@dataclass(frozen=True, slots=True)
class Account:
    """The whole answer about one message. Times are wall-clock milliseconds."""

    seq: int
    fate: Fate
    detail: str
    seen: Seen | None = None
    judgement: Judgement | None = None
    expires_ms: int | None = None
    delivery_count: int = 0
    locked_until_ms: int | None = None
    """None also for a lock that only its receiver ends."""
    letter: DeadLetter | None = None


class Whys:
    """Answers what became of messages."""

    def __init__(
        self, *, log: MessageLog, looking: Looking, settling: Settling, clock: Clock
    ) -> None:
        self._log = log
        self._looking = looking
        self._settling = settling
        self._clock = clock

    async def ask(
        self, subscription: Subscription, seq: int, *, condition: qel.Filter | None
    ) -> Account:
        """What became of message `seq`; `condition` bounds what the asker may see.

        Raises Unavailable.
        """
        key = subscription.spec.key
        _, end = await self._looking.bounds(key)
        if seq >= end:
            detail = f"There is no message {seq} yet: the last one of this topic is {end - 1}."
            if end <= 1:
                detail = f"There is no message {seq}: this topic has had none yet."
            return Account(seq, Fate.NO_SUCH_MESSAGE, detail)
        letter = await self._letter(subscription, seq)
        seen = await self._looking.one(key, seq)
        if seen is None and letter is not None:
            seen = Seen(seq, letter.enqueued_ms, letter.payload)
        if seen is None:
            return self._of_gone(subscription, seq)
        if condition is not None and not _lets_through(condition, seen.stored):
            return Account(seq, Fate.NOT_MATCHED, _OUT_OF_SIGHT)
        return self._of_held(subscription, seen, letter)

    def fates(self, subscription: Subscription, matched: list[Seen]) -> list[Fate]:
        """Where the messages of a look are that the filter lets through; they have no gaps."""
        if not matched:
            return []
        # All that is unsettled matches, so no more than these can lie between them.
        ahead = subscription.unsettled_from(matched[0].seq, limit=len(matched))
        unsettled = frozenset(ahead)
        return [self._place(subscription, seen, unsettled) for seen in matched]

    # One message

    async def _letter(self, subscription: Subscription, seq: int) -> DeadLetter | None:
        if not self._is_dead(subscription, seq):
            return None
        try:
            found = await self._log.dead_letters(subscription.spec.id, from_seq=seq, limit=1)
        except LogFailure as failure:
            raise Unavailable("the dead letters cannot be read now; try again later") from failure
        return found[0] if found and found[0].seq == seq else None

    def _of_gone(self, subscription: Subscription, seq: int) -> Account:
        """About a message that the log does not hold."""
        fate = Fate.BEFORE_START if seq < subscription.spec.start_seq else Fate.REMOVED
        return Account(seq, fate, _DETAILS[fate])

    def _of_held(
        self, subscription: Subscription, seen: Seen, letter: DeadLetter | None
    ) -> Account:
        seq, stored = seen.seq, seen.stored
        locks = subscription.locks
        judgement = Judge(subscription.filter).explain(stored)
        end_ms = expires_ms(stored, seen.enqueued_ms)
        fate = self._fate(subscription, seen, letter, matches=judgement.truth is True)
        detail = _DETAILS[fate]
        if fate is Fate.SETTLED and end_ms is not None and end_ms <= self._clock.now_ms():
            detail = _SETTLED_AFTER_LIFE
        account = Account(
            seq,
            fate,
            detail,
            seen=seen,
            judgement=judgement,
            expires_ms=end_ms,
            delivery_count=locks.counts.get(seq, 0),
            letter=letter,
        )
        holding = locks.unsettled.get(seq)
        if fate is Fate.LOCKED and holding is not None and holding.until_ms < FOREVER:
            return replace(account, locked_until_ms=self._wall_ms(holding))
        return account

    def _fate(
        self, subscription: Subscription, seen: Seen, letter: DeadLetter | None, *, matches: bool
    ) -> Fate:
        if letter is not None:
            return Fate.DEAD_LETTERED
        if seen.seq < subscription.spec.start_seq:
            return Fate.BEFORE_START
        if not matches:
            return Fate.NOT_MATCHED
        ahead = subscription.unsettled_from(seen.seq, limit=1)
        return self._place(subscription, seen, frozenset(ahead))

    def _place(self, subscription: Subscription, seen: Seen, unsettled: frozenset[int]) -> Fate:
        """Where a message is that belongs to the subscription."""
        seq, behind_at = seen.seq, subscription.behind_at
        if self._is_dead(subscription, seq):
            return Fate.DEAD_LETTERED
        holding = subscription.locks.unsettled.get(seq)
        if holding is not None:
            fate = _OF_LOCKS[holding.state]
        elif behind_at is not None and seq >= behind_at:
            fate = Fate.SETTLED if subscription.settled_ahead(seq) else Fate.BEHIND
        else:
            fate = Fate.WAITING if seq in unsettled else Fate.SETTLED
        if fate in {Fate.WAITING, Fate.BEHIND} and self._has_expired(seen):
            return Fate.EXPIRED
        return fate

    def _is_dead(self, subscription: Subscription, seq: int) -> bool:
        # Asked for its size first: no queue is made for who has no dead letters.
        has_any = self._settling.dead_count(subscription) > 0
        return has_any and seq in self._settling.dead_letters(subscription)

    def _has_expired(self, seen: Seen) -> bool:
        end_ms = expires_ms(seen.stored, seen.enqueued_ms)
        return end_ms is not None and end_ms <= self._clock.now_ms()

    def _wall_ms(self, holding: Holding) -> int:
        return self._clock.now_ms() + holding.until_ms - self._clock.ticks_ms()


def _lets_through(condition: qel.Filter, stored: bytes) -> bool:
    return condition.matches(Puller(condition.properties).pull(stored))
