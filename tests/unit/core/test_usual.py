"""Many subscriptions at once, in C and in Python."""

import pytest

from hotpath.core import usual, usual_plain
from hotpath.core.subscription import Subscription
from hotpath.model.subscription import Progress, ProgressDelta
from tests.support.twins import needs_helper
from tests.unit.core.test_subscription import (
    KEY,
    batch_of,
    live,
    make_subscription,
    resumed,
    settle,
    take,
)

MARK_MS = 25_000


@pytest.fixture(params=[pytest.param("c", marks=needs_helper), "python"])
def twin(request):
    """The functions of one of the two."""
    return usual if request.param == "c" else usual_plain


class Rest:
    """What is called when a subscription is to be looked at."""

    def __init__(self) -> None:
        self.behind: set[Subscription] = set()
        self.touched: list[Subscription] = []
        self.woken: list[Subscription] = []

    def offer(self, twin, hits, batch, *, active_ms: int = 10) -> None:
        calls = (self.touched.append, self.woken.append)
        twin.offer_all(hits, batch, self.behind, active_ms, MARK_MS, *calls)


@pytest.fixture
def rest() -> Rest:
    return Rest()


def test_each_gets_the_numbers_of_what_it_matches(twin):
    first, second, third = live(), live(), live()
    wanted = {"a": {first, second}, "b": set(), "c": {second}}

    hits = twin.route_all(["a", "b", "a", "c"], (1 << 40) - 2, wanted.__getitem__)

    at = (1 << 40) - 2
    assert hits == {first: [at, at + 2], second: [at, at + 2, at + 3]}
    assert third not in hits
    assert twin.route_all([], 1, wanted.__getitem__) == {}
    assert twin.route_all(["b"], 1, wanted.__getitem__) == {}


def test_what_fails_in_asking_is_told(twin):
    def match(pulled):
        if pulled == "c":
            raise LookupError(pulled)
        return [live()]

    with pytest.raises(LookupError):
        twin.route_all(["a", "b", "c", "a"], 1, match)
    with pytest.raises(TypeError):
        twin.route_all(["a"], 1, lambda _: 7)


def test_what_matched_can_be_taken_and_counts(twin, rest):
    first, second = live(), live()

    rest.offer(twin, {first: [1, 3], second: [2]}, batch_of(1))

    assert (first.matched_total, first.ready_count, first.active_ms) == (2, 2, 10)
    assert (take(first), take(second)) == ([1, 3], [2])
    assert (rest.behind, rest.touched, rest.woken) == (set(), [], [])


def test_only_who_has_receivers_is_woken_and_after_all_were_offered(twin):
    read, unread, last = live(), live(), live()
    read.receivers = last.receivers = 1
    seen = []
    hits = {read: [1], unread: [2], last: [3]}

    twin.offer_all(
        hits, batch_of(1), set(), 0, MARK_MS, None, lambda each: seen.append((each, take(last)))
    )

    assert [each for each, _ in seen] == [read, last]
    assert seen[0][1] == [3]


@pytest.mark.parametrize(("active_ms", "touches"), [(MARK_MS - 1, 0), (MARK_MS, 1)])
def test_activity_is_made_durable_when_the_durable_one_is_old(twin, rest, active_ms, touches):
    subscription = live()

    rest.offer(twin, {subscription: [1]}, batch_of(1), active_ms=active_ms)

    assert rest.touched == [subscription] * touches
    assert subscription.active_ms == (0 if touches else active_ms)


def test_who_has_a_full_queue_falls_behind_and_who_is_behind_only_counts(twin, rest):
    full, behind = live(ready_max=2), make_subscription(start_seq=1)
    full.changed_since_snapshot = behind.changed_since_snapshot = False
    rest.offer(twin, {full: [1, 2, 3]}, batch_of(1))
    assert full.behind_at is None

    rest.offer(twin, {full: [11], behind: [11, 12]}, batch_of(11))

    assert (full.behind_at, full.ready_count, full.matched_total) == (11, 3, 4)
    assert (behind.behind_at, behind.ready_count, behind.matched_total) == (1, 0, 2)
    assert full.changed_since_snapshot
    assert behind.changed_since_snapshot
    assert rest.behind == {full, behind}


@needs_helper
@pytest.mark.parametrize(
    ("hits", "batch"),
    [
        pytest.param({"s": [1]}, batch_of(1), id="no subscription"),
        pytest.param({live(): (1,)}, batch_of(1), id="no list"),
        pytest.param({live(): [1]}, "batch", id="no batch"),
    ],
)
def test_foreign_objects_are_refused_before_anything_has_changed(rest, hits, batch):
    subscription = live()

    with pytest.raises(TypeError):
        rest.offer(usual, {subscription: [1], **hits}, batch)

    assert subscription.matched_total == 0


# Progress


def progress_of(twin, *subscriptions: Subscription, routed_to: int = 100):
    """The deltas, and who is left to be asked."""
    progress: list[tuple[str, ProgressDelta]] = []
    left = twin.collect_all(dict.fromkeys(subscriptions), lambda _: routed_to, progress)
    left_ones = dict.fromkeys(left)
    assert usual_plain.collect_all(left_ones, lambda _: routed_to, progress) == []
    return [delta for _, delta in progress], left


def with_open(*settled: int) -> Subscription:
    """Five messages were taken, some are settled."""
    subscription = live()
    subscription.offer(batch_of(1), [1, 2, 3, 4, 5])
    take(subscription)
    settle(subscription, *settled)
    return subscription


def ready() -> Subscription:
    subscription = live()
    subscription.offer(batch_of(1), [4, 7])
    return subscription


def partly_taken() -> Subscription:
    subscription = ready()
    take(subscription, 1)
    settle(subscription, 4)
    return subscription


@pytest.mark.parametrize(
    ("make", "cursor", "settled", "totals"),
    [
        pytest.param(live, 100, (), (0, 0), id="nothing"),
        pytest.param(ready, 4, (), (0, 0), id="matched and waiting"),
        pytest.param(partly_taken, 7, (), (1, 1), id="a part of a run was taken"),
        pytest.param(with_open, 1, (), (0, 5), id="taken"),
        pytest.param(lambda: with_open(1, 2), 3, (), (2, 5), id="settled in order"),
        pytest.param(lambda: with_open(2, 5), 1, (2, 5), (2, 5), id="settled out of order"),
        pytest.param(lambda: with_open(1, 2, 3, 4, 5), 100, (), (5, 5), id="all settled"),
        pytest.param(make_subscription, 1, (), (0, 0), id="behind"),
    ],
)
def test_progress_tells_the_cursor_and_what_is_settled_beyond_it(
    twin, make, cursor, settled, totals
):
    subscription = make()
    subscription.persisted_active_ms = 77

    [delta], left = progress_of(twin, subscription)

    assert delta == ProgressDelta(cursor, settled, (), (), 77, *totals)
    assert isinstance(delta, ProgressDelta)
    assert left == []
    assert subscription.changed_since_snapshot
    assert progress_of(twin, subscription)[0][0].settled == ()


def with_failure() -> Subscription:
    subscription = with_open(1)
    subscription.locks.count_failure(2)
    return subscription


def with_deferred() -> Subscription:
    subscription = with_open(1)
    subscription.locks.defer(2, subscription.locks.unsettled[2])
    return subscription


def with_deferred_ahead() -> Subscription:
    return resumed(Progress(5, deferred={9}, unsettled={2}, counts={2: 1}))


@needs_helper
@pytest.mark.parametrize("make", [with_failure, with_deferred, with_deferred_ahead])
def test_whoever_has_more_to_tell_is_asked_and_tells_it(make):
    [expected], _ = progress_of(usual_plain, make())

    [delta], left = progress_of(usual, subscription := make())

    assert delta == expected
    assert left == [subscription]


def test_nothing_is_told_of_a_subscription_that_is_gone(twin):
    subscription = with_open(1)
    subscription.deleted = True

    assert progress_of(twin, subscription)[0] == []


def test_where_a_topic_stands_is_asked_once_for_all_that_share_its_key(twin):
    asked = []
    subscriptions = [live() for _ in range(3)]
    for each in subscriptions:
        each.key = KEY

    twin.collect_all(dict.fromkeys(subscriptions), lambda each: asked.append(each) or 9, [])

    assert len(asked) == 1


# Learning


@needs_helper
def test_a_class_without_the_slots_is_not_learnt():
    from hotpath.native import _native  # noqa: PLC0415  # it may not be there

    class Run:
        batch = None

    with pytest.raises(TypeError, match="is no slot"):
        _native.learn({"Run": Run})
    with pytest.raises(TypeError, match="is no class"):
        _native.learn({"Run": 1})
    # What was known goes on.
    usual.offer_all({(subscription := live()): [1]}, batch_of(1), set(), 0, MARK_MS, None, None)
    assert take(subscription) == [1]
