"""Progress as a fold of deltas, against the plain meaning of what they say."""

from copy import deepcopy

from hypothesis import given
from hypothesis import strategies as st

from hotpath.model.subscription import Progress, ProgressDelta

LAST = 40


@st.composite
def histories(draw) -> tuple[Progress, list[ProgressDelta], list[set[int]]]:
    """A snapshot, the deltas after it, and the settled messages after each of them."""
    horizon = draw(st.integers(0, LAST))
    unsettled = draw(st.sets(st.integers(0, LAST), max_size=10))
    unsettled = {seq for seq in unsettled if seq < horizon}
    settled = {seq for seq in range(horizon) if seq not in unsettled}
    start = Progress(horizon, unsettled=unsettled)
    deltas, states = [], []
    for _ in range(draw(st.integers(0, 8))):
        more = draw(st.sets(st.integers(0, LAST), max_size=6)) - settled
        settled = settled | more
        cursor = next(seq for seq in range(LAST + 2) if seq not in settled)
        counts = draw(st.dictionaries(st.integers(0, LAST), st.integers(1, 9), max_size=3))
        deferred = draw(st.dictionaries(st.integers(0, LAST), st.booleans(), max_size=3))
        deltas.append(
            ProgressDelta(
                cursor,
                tuple(seq for seq in more if seq >= cursor),
                tuple(counts.items()),
                tuple(deferred.items()),
                draw(st.none() | st.integers(0, 100)),
                len(settled),
                len(settled) + 1,
            )
        )
        states.append(set(settled))
    return start, deltas, states


@given(histories())
def test_after_each_delta_exactly_what_was_settled_is_settled(history):
    progress, deltas, states = history
    for delta, settled in zip(deltas, states, strict=True):
        progress.apply(delta)
        assert {seq for seq in range(LAST + 1) if progress.is_settled(seq)} == settled
        assert progress.cursor == delta.cursor


@given(histories())
def test_a_delta_applied_twice_changes_nothing(history):
    progress, deltas, _ = history
    for delta in deltas:
        progress.apply(delta)
        once = deepcopy(progress)
        progress.apply(delta)
        assert progress == once


@given(histories())
def test_old_deltas_applied_again_bring_nothing_settled_back(history):
    progress, deltas, states = history
    for delta in deltas:
        progress.apply(delta)
    for delta in deltas:
        progress.apply(delta)
        settled = {seq for seq in range(LAST + 1) if progress.is_settled(seq)}
        assert settled == (states[-1] if states else settled)


@given(histories())
def test_counts_and_deferrals_are_the_last_ones_told_of_what_is_unsettled(history):
    progress, deltas, states = history
    counts: dict[int, int] = {}
    deferred: dict[int, bool] = {}
    for delta, settled in zip(deltas, states, strict=True):
        progress.apply(delta)
        counts.update(delta.counts)
        deferred.update(delta.deferred)
        counts = {seq: count for seq, count in counts.items() if seq not in settled}
        deferred = {seq: is_so for seq, is_so in deferred.items() if seq not in settled}
        assert progress.counts == counts
        assert progress.deferred == {seq for seq, is_so in deferred.items() if is_so}


@given(histories())
def test_nothing_is_kept_that_the_cursor_has_passed(history):
    progress, deltas, _ = history
    for delta in deltas:
        progress.apply(delta)
    for known in (progress.unsettled, progress.settled, progress.counts, progress.deferred):
        assert all(seq >= progress.cursor for seq in known) or not deltas


@given(histories())
def test_totals_and_activity_only_grow(history):
    progress, deltas, _ = history
    for delta in deltas:
        before = (progress.active_ms, progress.settled_total, progress.delivered_total)
        progress.apply(delta)
        after = (progress.active_ms, progress.settled_total, progress.delivered_total)
        assert all(new >= old for new, old in zip(after, before, strict=True))
    told = [delta.active_ms for delta in deltas if delta.active_ms is not None]
    assert progress.active_ms == max(told, default=0)
