"""JSON bodies: any text is a value or Invalid, and elements keep their own text."""

import json

from hypothesis import given
from hypothesis import strategies as st

from hotpath.model.errors import Invalid
from hotpath.model.names import Topic
from hotpath.rest.bodies import decode, elements, parse_whole
from hotpath.rest.shapes import SHAPES
from hotpath.rest.subscriptions import read_new_subscription

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers()
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda t: t.encode("utf-8", "replace")))
def test_any_bytes_are_a_value_or_invalid(body: bytes) -> None:
    try:
        value, text = parse_whole(decode(body))
    except Invalid:
        return
    assert json.loads(text) == value


@given(st.lists(VALUES, max_size=6), st.sampled_from([None, 1]))
def test_elements_come_in_order_with_their_own_text(values: list[object], indent) -> None:
    text = " \n" + json.dumps(values, indent=indent) + " "

    found = list(elements(text, text.index("[")))

    assert [value for value, _ in found] == values
    assert [json.loads(own) for _, own in found] == values
    assert all(own == own.strip() and own in text for _, own in found)


@given(st.text(max_size=30).map("[".__add__))
def test_any_array_text_is_elements_or_invalid(text: str) -> None:
    try:
        values = [value for value, _ in elements(text, 0)]
    except Invalid:
        return
    assert values == json.loads(text)


@given(
    st.sampled_from(list(SHAPES)),
    st.dictionaries(
        st.sampled_from(["objectId", "variable", "value", "event", "alarm", "eventType"])
        | st.sampled_from(["timestamp", "eventTime", "quality", "model", "severity", "x"]),
        VALUES | st.just("2024-01-01T00:00:00Z"),
        max_size=8,
    ),
)
def test_any_object_is_stored_or_named_wrong(topic: Topic, message: dict[str, object]) -> None:
    shape = SHAPES[topic]
    faults = shape.check(message)
    if not faults:
        assert shape.encode(message, json.dumps(message), "2024-01-01T00:00:00.000Z")
    assert all(fault.pointer for fault in faults)


@given(
    st.dictionaries(
        st.sampled_from(["subscriptionTTL", "sasTokenTTL", "filter", "startFrom", "more"]),
        VALUES | st.just(60) | st.just(10) | st.just("value > 1"),
    )
)
def test_any_request_is_read_or_named_wrong(body: dict[str, object]) -> None:
    try:
        wanted = read_new_subscription(body, Topic.VARIABLES, now_ms=1_700_000_000_000)
    except Invalid:
        return
    assert 5 <= wanted.sas_ttl_minutes < wanted.ttl_minutes <= 43_200
