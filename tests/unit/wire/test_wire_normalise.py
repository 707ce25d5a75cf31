"""From what a publisher sent to the stored form."""

import proton
import pytest

from hotpath.wire.encoder import encode_map
from hotpath.wire.message import BROKER_OWNED, is_plain, normalise, stored_parts
from hotpath.wire.normal import _normalise_any
from hotpath.wire.types import Symbol, WireError, decode_exact, encode
from tests.unit.wire.wire_messages import FIVE, annotated, published, received

DATA = bytes.fromhex("005375a00161")


def test_message_without_header_is_stored_as_it_is():
    raw = DATA

    assert normalise(raw) is raw


@pytest.mark.parametrize(
    "header",
    ["00537045", "005370c00100", "005370c0020141", "005370c0020142", "005370c0050440404042",
     "005370c007054140404052ff", "005370c004024150" + "04", "005370c0060540404041" + "43",
     "005370d0000000050000000141", "005370c0080340407000000000"],
)  # fmt: skip
def test_header_that_says_nothing_of_weight_is_dropped(header):
    assert normalise(bytes.fromhex(header) + DATA) == DATA


@pytest.mark.parametrize("descriptor", ["5370", "800000000000000070"])
@pytest.mark.parametrize(
    ("fields", "ttl_ms", "priority"),
    [
        ("c0040241" + "5007", None, 7),
        ("c0080341" + "40" + "700000ea60", 60000, None),
        ("c009034150" + "00" + "700000ea60", 60000, 0),
        ("c00603415004" + "523c", 60, None),
        ("c008054140523c425203", 60, None),
    ],
)
def test_ttl_and_priority_are_kept(descriptor, fields, ttl_ms, priority):
    stored = normalise(bytes.fromhex("00" + descriptor + fields) + DATA)

    parts = stored_parts(stored)

    assert not is_plain(stored)
    assert stored.startswith(b"\x00\x53\x70\xc0")
    assert (parts.ttl_ms, parts.priority, parts.annotations) == (ttl_ms, priority, None)
    assert stored[parts.bare :] == DATA


@pytest.mark.parametrize(
    "fields",
    ["c0020150", "c0020155", "c0030250" + "01", "c003024041", "c0040240" + "6001", "c0080340408000",
     "c007064040404040" + "40", "c10100", "41", "c00d034040800000000000" + "00003c"],
)  # fmt: skip
def test_header_with_fields_of_wrong_types_is_refused(fields):
    with pytest.raises(WireError):
        normalise(bytes.fromhex("005370" + fields) + DATA)


def test_bare_message_is_stored_byte_for_byte():
    raw = published(properties=FIVE, content_type="application/json", subject="s", id="7",
                    durable=True, ttl=5.0, priority=9)  # fmt: skip

    stored = normalise(raw)

    bare = stored[stored_parts(stored).bare :]
    assert raw.endswith(bare)
    assert bare.startswith(b"\x00\x53\x73")
    assert received(bare).properties == FIVE


def test_delivery_annotations_are_dropped():
    raw = published(instructions={proton.symbol("x-opt-lock-token"): "mine"}, properties=FIVE)
    assert b"x-opt-lock-token" in raw

    stored = normalise(raw)

    assert b"x-opt-lock-token" not in stored
    assert received(stored).properties == FIVE


def test_annotations_of_the_publisher_are_kept_as_they_are():
    stored = normalise(annotated({"x-opt-partition-key": "k", "mine": 1}))

    annotations = stored_parts(stored).annotations
    assert annotations is not None
    assert decode_exact(annotations) == {Symbol("x-opt-partition-key"): "k", Symbol("mine"): 1}


def test_annotations_that_the_broker_owns_are_removed():
    pairs = {name.decode(): 1 for name in BROKER_OWNED}

    kept = normalise(annotated({**pairs, "mine": 1}))
    gone = normalise(annotated(pairs))

    assert decode_exact(stored_parts(kept).annotations or b"") == {Symbol("mine"): 1}
    assert is_plain(gone)


@pytest.mark.parametrize("constructor", ["a3", "b3", "a1", "b1"])
def test_broker_owned_annotation_is_removed_however_its_key_is_encoded(constructor):
    name = b"x-opt-sequence-number"
    width = 1 if constructor[0] == "a" else 4
    key = bytes.fromhex(constructor) + len(name).to_bytes(width, "big") + name
    entry = key + b"\x55\x01"
    raw = b"\x00\x53\x72\xc1" + bytes((len(entry) + 1, 2)) + entry + DATA

    assert normalise(raw) == DATA


def test_stored_annotations_always_have_the_short_descriptor():
    raw = bytes.fromhex("00800000000000000072c10502a3016141") + DATA

    stored = normalise(raw)

    assert stored == bytes.fromhex("005372c10502a3016141") + DATA


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"x" * 255, b"x" * 256, "text", None, 5, ["a", {"b": 1}], {"k": "v"}, "x" * 300],
    ids=lambda body: str(body)[:10],
)
def test_any_body_is_accepted_and_unchanged(body):
    raw = published(body, properties=FIVE)

    back = received(normalise(raw))

    assert back.body == body
    assert back.properties == FIVE


@pytest.mark.parametrize(
    "tail",
    ["005375a001610053" + "75a00162", "00537645005376c0020141", "005375a00161005378c10100",
     "00a310616d71703a646174613a62696e617279a000"],
    ids=["several data", "sequences", "footer", "symbol descriptor"],
)  # fmt: skip
def test_unusual_bodies_are_stored_as_they_are(tail):
    raw = bytes.fromhex(tail)

    assert normalise(raw) == raw


REFUSED = [
    "", "00", "0053", "005375", "005375a0", "005375a002ff", "41", "005370c0020141", "00537045005378c10100",
    "005373450053",
    "005375a00161ff", "005375a0016100537740", "005374c103014041005375a000", "005374c1020140005375a000",
    "005373c00f0e" + "40" * 14 + "005375a000", "005373c0030140" + "005375a000", "00537445005375a000",
    "005374d1ffffffff00000000005375a000", "005373d00000000500000002" + "40005375a000",
    "005377c0ff01", "005377ff", "005375b000000002ff",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_message_is_refused(text):
    with pytest.raises(WireError):
        normalise(bytes.fromhex(text))


@pytest.mark.parametrize("count", [0, 1, 9, 10, 13])
@pytest.mark.parametrize("wide", [False, True], ids=["list8", "list32"])
def test_usual_encodings_take_the_short_way_to_the_same_result(count, wide):
    fields = b"\x40" * count
    if wide:
        properties = b"\xd0" + (count + 4).to_bytes(4, "big") + count.to_bytes(4, "big") + fields
    else:
        properties = bytes((0xC0, count + 1, count)) + fields
    raw = b"\x00\x53\x73" + properties + DATA

    assert normalise(raw) is raw
    assert _normalise_any(raw) == raw


@pytest.mark.parametrize("section", ["74", "72"])
def test_more_entries_than_the_broker_walks_through_are_refused(section):
    def entries(count: int) -> bytes:
        pairs = encode_map([encode(f"n{number}") + b"\x40" for number in range(count)])
        size = 2 * count
        return (
            b"\x00\x53" + bytes.fromhex(section) + pairs[:5] + size.to_bytes(4, "big") + pairs[9:]
        )

    assert normalise(entries(4096) + DATA).endswith(entries(4096)[3:] + DATA)
    with pytest.raises(WireError, match="8194 elements, more than 8192"):
        normalise(entries(4097) + DATA)


def test_more_sections_than_a_message_may_have_are_refused():
    piece = bytes.fromhex("005375a000")

    assert normalise(piece * 10_000) == piece * 10_000
    with pytest.raises(WireError, match="more than 10000 sections"):
        normalise(piece * 10_001)
