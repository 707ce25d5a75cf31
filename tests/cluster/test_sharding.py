"""Which node each shard belongs to."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotpath.cluster.sharding import assign, shard_of

NAMES = st.sets(st.text("abcdefghij-_0123456789", min_size=1, max_size=12), min_size=1, max_size=24)
SHARDS = st.sampled_from((1, 2, 7, 16, 64, 256))
FEW = settings(max_examples=60, deadline=None)


def _loads(owners, nodes):
    return [owners.count(node) for node in nodes]


@FEW
@given(nodes=NAMES, shards=SHARDS)
def test_every_shard_has_one_of_the_nodes_and_their_numbers_differ_by_one_at_most(nodes, shards):
    owners = assign(shards, nodes)

    assert len(owners) == shards
    assert set(owners) <= nodes
    loads = _loads(owners, nodes)
    assert max(loads) - min(loads) <= 1


@FEW
@given(nodes=NAMES, shards=SHARDS, random=st.randoms(use_true_random=False))
def test_the_order_of_the_nodes_makes_no_difference(nodes, shards, random):
    names = sorted(nodes)
    random.shuffle(names)

    assert assign(shards, names) == assign(shards, nodes)
    assert assign(shards, names + names[:1]) == assign(shards, nodes)


@FEW
@given(nodes=NAMES, shards=st.sampled_from((64, 256)))
def test_when_a_node_comes_little_more_than_its_share_moves(nodes, shards):
    newcomer = "the-new-one"
    before, after = assign(shards, nodes), assign(shards, nodes | {newcomer})

    moved = sum(was != now for was, now in zip(before, after, strict=True))
    share = -(-shards // (len(nodes) + 1))
    assert after.count(newcomer) in {share, share - 1}
    # No law: one shard that is pushed out pushes out another. Of 10,000 sets of up to 24 names the
    # worst moved 27 shards where the share is 3.
    assert moved <= 8 * share + 16


@pytest.mark.parametrize("nodes", range(1, 7))
def test_up_to_six_nodes_what_moves_is_at_most_half_as_much_again_as_it_must(nodes):
    moved = 0
    for trial in range(20):
        names = [f"node-{trial}-{number}" for number in range(nodes + 1)]
        before, after = assign(64, names[:-1]), assign(64, names)
        moved += sum(was != now for was, now in zip(before, after, strict=True))

    assert moved / 20 <= 1.5 * 64 / (nodes + 1)


@pytest.mark.parametrize("nodes", range(7, 25))
def test_with_more_nodes_still_most_shards_stay_when_one_comes(nodes):
    moved = []
    for trial in range(20):
        names = [f"node-{trial}-{number}" for number in range(nodes + 1)]
        before, after = assign(64, names[:-1]), assign(64, names)
        moved.append(sum(was != now for was, now in zip(before, after, strict=True)))

    assert sum(moved) / 20 <= 64 / 4
    assert max(moved) <= 64 * 3 / 8


def test_without_nodes_nobody_has_anything():
    assert assign(3, []) == [None, None, None]


def test_a_subscription_stays_in_its_shard_for_good():
    # These are on disk in clusters: they must never change.
    assert [shard_of(name, 64) for name in ("a", "b", "3f2c8a1e")] == [47, 53, 32]
    assert 0 <= shard_of("", 7) < 7


def test_subscriptions_are_spread_evenly():
    counts = [0] * 64
    for number in range(6_400):
        counts[shard_of(f"subscription-{number}", 64)] += 1

    assert min(counts) > 60
    assert max(counts) < 145
