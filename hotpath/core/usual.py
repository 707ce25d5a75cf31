"""The usual way of messages through many subscriptions at once: in C, or one after the other.

In C it walks over the very objects of this package, whose places it is told here. About whatever is
not usual it asks the methods of `Subscription` and `LockTable`, which say what is right.
"""

from typing import TYPE_CHECKING, Final

from hotpath import native
from hotpath.core.locks import NO_HOLDINGS, Holding, LockTable, State
from hotpath.core.subscription import NO_RUNS, Run, Subscription
from hotpath.model.message import Batch
from hotpath.model.subscription import ProgressDelta, SubscriptionSpec

#: What the helper is told of.
LEARNT: Final[dict[str, object]] = {
    "Run": Run,
    "Batch": Batch,
    "Subscription": Subscription,
    "LockTable": LockTable,
    "Holding": Holding,
    "SubscriptionSpec": SubscriptionSpec,
    "ProgressDelta": ProgressDelta,
    "LOCKED": State.LOCKED,
    "NO_RUNS": NO_RUNS,
    "NO_HOLDINGS": NO_HOLDINGS,
}

if TYPE_CHECKING or native.ENABLED:
    from hotpath.native._native import collect_all, complete_all, offer_all, route_all
else:
    from hotpath.core.usual_plain import collect_all, complete_all, offer_all, route_all

if native.ENABLED:
    native.learn(LEARNT)

__all__ = ["LEARNT", "collect_all", "complete_all", "offer_all", "route_all"]
