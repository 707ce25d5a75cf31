"""Messages, batches and errors as values."""

import pytest

from hotpath.model.errors import (
    Forbidden,
    HotpathError,
    Invalid,
    LimitReached,
    LockLost,
    NotFound,
    TooLarge,
    TooMany,
    Unauthorized,
    Unavailable,
    Unsupported,
    Violation,
)
from hotpath.model.message import Batch, DeadLetter
from hotpath.model.names import SubscriptionId, TenantId, Topic, TopicKey
from hotpath.model.subscription import Progress, SubscriptionSpec

KEY = TopicKey(TenantId("acme"), Topic.EVENTS)


def test_a_batch_knows_its_extent_and_keeps_it_when_released():
    batch = Batch(KEY, 5, enqueued_ms=9, payloads=[b"ab", b"c"])
    assert (batch.count, batch.end_seq, batch.byte_size) == (2, 7, 3)
    batch.release()
    assert batch.payloads is None
    assert (batch.count, batch.end_seq, batch.byte_size) == (2, 7, 3)
    assert "5..6" in repr(batch)


def test_a_dead_letter_begins_without_failed_deliveries():
    letter = DeadLetter(3, enqueued_ms=1, payload=b"x", reason="bad")
    assert (letter.delivery_count, letter.description) == (0, "")


def test_a_subscription_reads_the_log_of_its_tenant_and_topic():
    spec = SubscriptionSpec(
        id=SubscriptionId("s"),
        tenant=KEY.tenant,
        topic=KEY.topic,
        filter="event = 'x'",
        condition=None,
        ttl_ms=1,
        sas_ttl_ms=1,
        start_seq=1,
        created_ms=0,
    )
    assert spec.key == KEY


def test_progress_without_exceptions_has_its_cursor_at_the_horizon():
    assert Progress(7).cursor == 7
    assert Progress(7, unsettled={3, 5}).cursor == 3


@pytest.mark.parametrize(
    "error",
    [
        Unauthorized("x"),
        Forbidden("x", scope="hotpath.publish"),
        NotFound("x"),
        Invalid([Violation("x")]),
        TooLarge("x", limit_bytes=5),
        TooMany("x", retry_after_s=1.5),
        LimitReached("x"),
        Unsupported("x"),
        LockLost("x"),
        Unavailable("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_each_error_has_a_code_of_its_own_and_says_what_is_wrong(error):
    codes = [leaf.code for leaf in HotpathError.__subclasses__()]
    assert codes.count(error.code) == 1
    assert (error.detail, str(error)) == ("x", "x")


def test_an_invalid_request_tells_every_fault():
    error = Invalid([Violation("a", pointer="/a"), Violation("b", meta={"line": 2})])
    assert str(error) == "a; b"
    assert [violation.pointer for violation in error.violations] == ["/a", None]
