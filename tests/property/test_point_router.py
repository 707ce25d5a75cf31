"""The index over points against a plain look at every stream, after random changes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hotpath.core.points import PointRouter
from tests.unit.core.test_points import batch_of, make_feed

POINTS = [f"p{n}" for n in range(6)]
STREAMS = ["one", "two", "three"]
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(STREAMS), st.lists(st.sampled_from(POINTS))),
        st.tuples(st.just("remove"), st.sampled_from(STREAMS), st.lists(st.sampled_from(POINTS))),
        st.tuples(st.just("end"), st.sampled_from(STREAMS), st.just([])),
        st.tuples(st.just("index"), st.just(""), st.just([])),
        st.tuples(st.just("publish"), st.just(""), st.lists(st.sampled_from(POINTS), min_size=1)),
    ),
    max_size=30,
)


@given(CHANGES)
@settings(max_examples=150, deadline=None)
def test_routing_agrees_with_the_sets(changes):
    router, feeds, held, next_seq = PointRouter(), {}, {}, 1
    for what, name, points in changes:
        if what in {"add", "remove"}:
            if name not in feeds:
                feeds[name], held[name] = make_feed(name), {}
                router.add(feeds[name])
            change_points(router, feeds[name], held[name], what, points, next_seq)
        elif what == "end" and name in feeds:
            router.remove(feeds.pop(name))
            del held[name]
        elif what == "index":
            router.index_next()
        elif what == "publish":
            batch = batch_of(*points, first_seq=next_seq)
            next_seq = batch.end_seq
            expected = {
                stream: [seq for seq, p in enumerate(points, batch.first_seq) if p in since]
                for stream, since in held.items()
            }
            routed = {feed.spec.id: seqs for feed, seqs in router.route(batch).items()}
            assert routed == {stream: seqs for stream, seqs in expected.items() if seqs}
            for stream, feed in feeds.items():
                assert list(router.matching(feed, batch)) == expected[stream]


def change_points(router, feed, held, what, points, next_seq):
    if what == "add":
        chunks = feed.points.add(points, since=next_seq)
        held.update({point: next_seq for point in points if point not in held})
    else:
        chunks = feed.points.remove(points)
        for point in points:
            held.pop(point, None)
    if len(points) % 2:
        router.reindex_later(chunks)
    for chunk in chunks if not len(points) % 2 else ():
        router.reindex(chunk)
    assert {point: feed.points.since(point) for point in feed.points} == held
