"""The states of points against a model that knows only the order of the durable values."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hotpath.service.points_read import PointValue
from hotpath.service.points_state import PointTable, Tentative, read_event
from hotpath.wire.body import body_bytes
from hotpath.wire.properties import Puller

POINTS = st.sampled_from(["a", "b"])
PARTITIONS = st.sampled_from(["acme", "north"])
VALUES = st.lists(
    st.builds(PointValue, POINTS, st.sampled_from(["1", "2", ""]), st.just(0), st.integers(0, 5)),
    min_size=1,
    max_size=4,
)
#: Commits: each some submissions, and whether it becomes durable.
COMMITS = st.lists(
    st.tuples(st.lists(st.tuples(PARTITIONS, VALUES), max_size=3), st.booleans()), max_size=8
)
PULLER = Puller([("id",), ("partitionId",)])


class Model:
    """All durable values of each point, in order."""

    def __init__(self):
        self.kept = {}

    def expect(self, partition, value):
        """The event's (changed, created, at); then the value is kept."""
        kept = self.kept.setdefault((partition, value.id), [])
        latest = None
        for each in kept:
            if latest is None or each.at_ms >= latest.at_ms:
                latest = each
        changed = int(latest is None or latest.value != value.value)
        kept.append(value)
        return changed, kept[0].at_ms, value.at_ms


@given(COMMITS)
@settings(max_examples=200, deadline=None)
def test_events_follow_from_the_durable_values_before_them(commits):
    table = PointTable("acme")
    tentative, model, seq = Tentative(table), Model(), 1
    log = []
    for submissions, durable in commits:
        composed = [(p, values, tentative.compose(p, values)) for p, values in submissions]
        first = seq
        for partition, values, (messages, _) in composed if durable else ():
            for value, message in zip(values, messages, strict=True):
                event = read_event(body_bytes(message))
                expected = model.expect(partition, value)
                assert (event.changed, event.created_ms, event.at_ms) == expected
                assert PULLER.pull(message) == {"id": value.id, "partitionId": partition}
                log.append((seq, partition, event))
                seq += 1
        for _, _, (_, after) in composed:
            tentative.settle(after, through=seq if durable else None)
        assert durable or seq == first
    assert replayed(log, table) == table.states


def replayed(log, table):
    """The states that a restart makes, from a store that has some of them already."""
    again = PointTable("acme")
    half = sorted(table.states)[::2]
    for key in half:
        again.take(key, table.states[key], through=table.through[key])
    for seq, partition, event in log:
        again.replay(partition, event, seq)
    return again.states
