"""Messages: the short ways give what the careful ways give, and nothing but WireError comes out."""

import json

import proton
from hypothesis import given, settings
from hypothesis import strategies as st

from hotpath.wire.batching import looks_batched, split_envelope
from hotpath.wire.deadletter import with_application_properties
from hotpath.wire.jsonbody import body_bytes, encode_json, split_array, split_text
from hotpath.wire.message import (
    BrokerAnnotations,
    DeliveryPrefix,
    due_ms,
    expires_ms,
    is_plain,
    normalise,
    stored_parts,
    without_schedule,
)
from hotpath.wire.normal import _normalise_any
from hotpath.wire.properties import Puller
from hotpath.wire.sections import walk
from hotpath.wire.types import WireError
from hotpath.wire.view import describe

few = settings(max_examples=100, deadline=None, derandomize=True)
many = settings(max_examples=400, deadline=None, derandomize=True)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.sampled_from(["objectId", "variable", "value", "quality", "p" * 300, "é"]) | TEXT
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    TEXT,
    st.text("x", min_size=250, max_size=260),
    st.integers(-(2**31), 2**31 - 1).map(proton.int32),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXT),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
BODIES = st.one_of(
    st.none(), st.binary(max_size=300), TEXT, st.integers(0, 5),
    JSON.map(lambda value: json.dumps(value).encode()),
    JSON.map(lambda value: json.dumps(value, ensure_ascii=False)),
    st.lists(SCALARS, max_size=3), st.dictionaries(NAMES, SCALARS, max_size=3),
)  # fmt: skip


@st.composite
def published(draw: st.DrawFn) -> bytes:
    """A message by Proton's encoder, with a mix of sections."""
    body = draw(BODIES)
    message = proton.Message(
        body=body, inferred=isinstance(body, bytes), durable=draw(st.booleans())
    )
    message.ttl = draw(st.sampled_from([0, 0, 1.5, 4e6]))
    message.priority = draw(st.sampled_from([4, 4, 0, 9]))
    if draw(st.booleans()):
        message.properties = draw(st.dictionaries(NAMES, SCALARS, max_size=6))
    if draw(st.booleans()):
        keys = st.sampled_from(["mine", "x-opt-sequence-number", "x-opt-scheduled-enqueue-time"])
        values = SCALARS | st.integers(0, 2**50).map(proton.timestamp)
        message.annotations = draw(st.dictionaries(keys.map(proton.symbol), values, max_size=3))
    if draw(st.booleans()):
        message.content_type = "application/json"
        message.expiry_time = draw(st.sampled_from([0, 1_700_000_000.0]))
        message.id = draw(st.sampled_from([None, "m", 5]))
    return bytes(message.encode())


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real message with bytes changed, removed, put in or cut off."""
    raw = bytearray(draw(published()))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(len(raw) - 1, 0)))
        match draw(st.sampled_from(["set", "insert", "delete", "cut"])):
            case "set":
                raw[at : at + 1] = bytes((draw(st.integers(0, 255)),))
            case "insert":
                raw[at:at] = draw(st.binary(max_size=4))
            case "delete":
                del raw[at : at + draw(st.integers(1, 8))]
            case "cut":
                del raw[at:]
    return bytes(raw)


WANTED = frozenset([("objectId",), ("value", "x"), ("quality",), ("p" * 300,), ("é",), ("",)])
PULLER = Puller(WANTED)
PREFIXES = [
    DeliveryPrefix(enqueued_ms=5),
    DeliveryPrefix(
        enqueued_ms=5,
        locked_until_ms=6,
        delivery_count=3,
        extra=BrokerAnnotations(message_state=1, scheduled_ms=7),
    ),
]


def outcome(call, *args):
    """A result, or the fact that the input was refused; any other exception passes through."""
    try:
        return call(*args)
    except WireError:
        return WireError


@many
@given(mutated())
def test_whatever_is_published_is_normalised_or_refused_alike_on_both_ways(raw):
    assert outcome(normalise, raw) == outcome(_normalise_any, raw)


@many
@given(mutated() | st.binary(max_size=50))
def test_stored_bytes_never_raise_more_than_declared(raw):
    for stored in (raw, outcome(normalise, raw)):
        if stored is WireError:
            continue
        PULLER.pull(stored)
        due_ms(stored)
        expires_ms(stored, 5)
        is_plain(stored)
        body_bytes(stored)
        looks_batched(stored)
        for call in (stored_parts, without_schedule, split_array, split_envelope, describe, walk):
            outcome(call, stored)
        outcome(with_application_properties, stored, {"a": 1})
        for prefix in PREFIXES:
            outcome(prefix.wire, 5, stored)


@many
@given(mutated())
def test_what_was_accepted_can_be_delivered(raw):
    stored = outcome(normalise, raw)
    if stored is WireError:
        return

    for prefix in PREFIXES:
        assert outcome(normalise, prefix.wire(5, stored)) is not WireError
    assert outcome(normalise, stored) == stored
    assert outcome(normalise, without_schedule(stored)) is not WireError


@many
@given(mutated())
def test_both_ways_to_read_properties_agree(raw):
    stored = outcome(normalise, raw)
    if stored is WireError:
        return
    careful, end = PULLER._search(stored)
    if len(careful) < len(PULLER.names):
        PULLER._pull_body(stored, end, careful)

    assert repr(sorted(PULLER.pull(stored).items())) == repr(sorted(careful.items()))


@few
@given(published())
def test_delivered_message_says_what_was_published(raw):
    sent = proton.Message()
    sent.decode(raw)
    wire = PREFIXES[1].wire(77, normalise(raw))

    got = proton.Message()
    got.decode(wire)

    assert got.body == sent.body
    assert got.properties == sent.properties
    assert (got.id, got.content_type, got.expiry_time) == (
        sent.id,
        sent.content_type,
        sent.expiry_time,
    )
    assert (got.ttl, got.priority, got.delivery_count) == (sent.ttl, sent.priority, 3)
    assert got.annotations[proton.symbol("x-opt-sequence-number")] == 77
    assert got.annotations.get(proton.symbol("mine")) == (sent.annotations or {}).get("mine")


@few
@given(published())
def test_properties_are_what_proton_reads(raw):
    sent = proton.Message()
    sent.decode(raw)

    found = PULLER.pull(normalise(raw))

    for name, value in (sent.properties or {}).items():
        if name in PULLER.names:
            assert found[name] == value
    assert found.keys() <= PULLER.names


@few
@given(st.dictionaries(NAMES, JSON, max_size=4), st.booleans(), st.sampled_from([None, 2]))
def test_members_are_what_json_reads(body, ascii_only, indent):
    text = json.dumps(body, ensure_ascii=ascii_only, indent=indent).encode()

    found = PULLER.pull(encode_json(text, {}))

    assert found == {name: value for name, value in body.items() if name in PULLER.names}


@few
@given(st.lists(st.dictionaries(NAMES, JSON, max_size=3), max_size=6), st.sampled_from([None, 1]))
def test_split_array_holds_the_same_elements(elements, indent):
    text = json.dumps(elements, indent=indent)

    messages = split_array(encode_json(text.encode(), {"quality": 1}))

    assert messages is not None
    assert [json.loads(body_bytes(message) or b"") for message in messages] == elements
    assert all(PULLER.pull(message)["quality"] == 1 for message in messages)


@many
@given(st.text(st.sampled_from('[]{},:"a1\\ \n'), max_size=30))
def test_text_is_split_exactly_if_json_reads_an_array_of_objects(text):
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None

    found = outcome(split_text, text)

    if not isinstance(parsed, list):
        assert found is None
    elif all(isinstance(element, dict) for element in parsed):
        assert [json.loads(element) for element in found] == parsed
    else:
        assert found is WireError
