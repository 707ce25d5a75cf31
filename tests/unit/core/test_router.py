"""Which subscriptions of a topic get which messages."""

import pytest

from hotpath.core.router import SCAN_MAX, Router, matching
from hotpath.model.message import Batch
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.wire.jsonbody import encode_json
from hotpath.wire.properties import Puller
from qel import compile_filter

KEY = TopicKey(TenantId("acme"), Topic.VARIABLES)


class FilterHolder:
    """As much of a subscription as routing looks at."""

    def __init__(self, text: str) -> None:
        self.filter = compile_filter(text, "variables")


def batch_of(*properties: dict) -> Batch:
    payloads = [encode_json(b"{}", one) for one in properties]
    return Batch(KEY, 11, enqueued_ms=0, payloads=payloads)


THREE = batch_of({"value": 1}, {"value": 5, "objectId": "pump"}, {"objectId": "pump"})


def test_each_subscription_gets_its_own_numbers_in_order():
    router = Router()
    high, pump, none = (
        FilterHolder(text) for text in ("value >= 1", "objectId = 'pump'", "value > 99")
    )
    for one in (high, pump, none):
        router.add(one)
    assert router.route(THREE) == {high: [11, 12], pump: [12, 13]}
    assert len(router) == 3


def test_a_subscription_that_was_removed_gets_nothing():
    router = Router()
    one, other = FilterHolder("value >= 1"), FilterHolder("objectId = 'pump'")
    router.add(one)
    router.add(other)
    router.remove(one)
    router.remove(one)
    assert router.route(THREE) == {other: [12, 13]}
    router.remove(other)
    assert router.route(THREE) == {}


def test_properties_that_a_later_filter_names_are_looked_at():
    router = Router()
    first, second = FilterHolder("value > 4"), FilterHolder("objectId = 'pump'")
    router.add(first)
    assert router.route(THREE) == {first: [12]}
    router.add(second)
    assert router.route(THREE) == {first: [12], second: [12, 13]}


@pytest.mark.parametrize("count", [SCAN_MAX - 1, SCAN_MAX, SCAN_MAX + 1, 3 * SCAN_MAX])
def test_few_and_many_filters_are_answered_alike(count):
    router = Router()
    holders = [FilterHolder(f"value >= {number}") for number in range(count)]
    for one in holders:
        router.add(one)
    expected = {one: [11, 12] if n < 2 else [12] for n, one in enumerate(holders) if n < 6}
    assert router.route(THREE) == expected
    for one in holders[2:]:
        router.remove(one)
    assert router.route(THREE) == {holders[0]: [11, 12], holders[1]: [11, 12]}


def test_a_released_batch_routes_nothing():
    router = Router()
    one = FilterHolder("value >= 1")
    router.add(one)
    batch = batch_of({"value": 1})
    batch.release()
    assert router.route(batch) == {}
    assert matching(one, batch, Puller(one.filter.properties)) == ()


def test_matching_one_filter_agrees_with_the_index():
    one = FilterHolder("value >= 1")
    assert matching(one, THREE, Puller(one.filter.properties)) == [11, 12]
