"""The C helper and the Python code give the same for the same bytes, whatever these are."""

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath import native
from hotpath.storage import encoding
from hotpath.wire.jsonbody import split_array
from hotpath.wire.normal import normalise_carefully
from hotpath.wire.properties import Puller
from hotpath.wire.stored import is_plain, may_expire
from hotpath.wire.types import WireError
from qel import DateTime
from tests.property.test_wire_messages import many, mutated

helper = pytest.importorskip("hotpath.native._native", reason="the C helper has not been built")

ANYTHING = mutated() | st.binary(max_size=60)
NAMES = ["objectId", "value", "quality", "p" * 300, "é", ""]
TEXTS = {name.encode(): name for name in NAMES}
MARKS = [b"\x00\x53" + bytes((code,)) for code in range(0x6F, 0x7A)]


def careful_pull(stored):
    """What the Python code reads."""
    puller = Puller([(name,) for name in NAMES])
    return puller, puller.pull(stored)


def same(left, right):
    """Equality that takes NaN for NaN, and 1 not for True."""
    return repr(left) == repr(right)


@many
@given(ANYTHING)
def test_what_the_helper_takes_in_is_what_the_careful_way_stores(raw):
    stored = helper.intake(raw)

    if stored is not None:
        assert stored == normalise_carefully(raw)
        assert split_array(stored) is None
        assert is_plain(stored)


@many
@given(ANYTHING)
def test_properties_are_the_same_by_the_helper(stored):
    puller, expected = careful_pull(stored)
    quick = helper.Puller(TEXTS, lambda ms: DateTime(ms * 1_000_000), 7)

    (found,) = quick.pull_all([stored], puller.pull, puller._pull_body)

    assert same(found, expected)


@many
@given(st.lists(ANYTHING, max_size=5))
def test_questions_about_many_messages_have_the_same_answers(payloads):
    assert helper.all_plain(payloads) == all(map(is_plain, payloads))
    assert helper.any_may_expire(payloads) == any(map(may_expire, payloads))


@many
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6), st.data())
def test_a_batch_is_framed_and_cut_alike(payloads, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "ENABLED", False)
        body = encoding.encode_body(payloads)
        assert helper.frame(payloads) == body
        assert helper.cut(body, len(payloads)) == payloads

        damaged = bytearray(body)
        damaged[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        count = data.draw(st.integers(-1, len(payloads) + 2))
        try:
            expected = encoding.decode_body(bytes(damaged), count)
        except encoding.Damaged:
            expected = None
        assert helper.cut(bytes(damaged), count) in (None, expected)


def test_many_random_messages_are_judged_alike():
    """Sections put together at random, where structure matters more than values."""
    seed = 20261121
    print(f"seed {seed}")
    draw = random.Random(seed)
    puller = Puller([(name,) for name in NAMES])
    quick = helper.Puller(TEXTS, lambda ms: DateTime(ms * 1_000_000), draw.getrandbits(32))
    taken = 0
    for _ in range(8_000):
        raw = b"".join(random_section(draw) for _ in range(draw.randint(1, 4)))
        if draw.random() < 0.3:
            raw = raw[: draw.randint(0, len(raw))]
        stored = helper.intake(raw)
        if stored is not None:
            taken += 1
            assert stored == normalise_carefully(raw), raw.hex()
        (found,) = quick.pull_all([raw], puller.pull, puller._pull_body)
        assert same(found, puller.pull(raw)), raw.hex()
        try:
            normalise_carefully(raw)
        except WireError:
            assert stored is None
    assert taken > 100


def random_section(draw):
    """A section mark and a value; sizes and counts are sometimes wrong."""
    mark = draw.choice(MARKS)
    kind = draw.random()
    if kind < 0.2:
        return mark + random_scalar(draw)
    elements = [random_scalar(draw) for _ in range(draw.choice([0, 2, 2, 4, 5, 14]))]
    if mark[2] == 0x75:
        return mark + b"\xa0\x03" + draw.choice([b"abc", b"[1]", b"{} ", b"\x00\x53\x75"])
    body = b"".join(elements)
    is_map = mark[2] in (0x71, 0x72, 0x74, 0x78)
    count = len(elements) + draw.choice([0, 0, 0, 0, 1, -1])
    size = len(body) + draw.choice([0, 0, 0, 0, 1, -1, 200])
    if len(body) < 250 and draw.random() < 0.7:
        head = bytes((0xC0 + is_map, (size + 1) & 0xFF, count & 0xFF))
    else:
        head = bytes((0xD0 + is_map,)) + struct.pack(
            ">II", (size + 4) & 0xFFFFFFFF, count & 0xFFFFFFFF
        )
    return mark + head + body


def random_scalar(draw):
    """An encoded value, with names that are looked for among them."""
    name = draw.choice(NAMES).encode()[:250]
    width = {0x5: 1, 0x6: 2, 0x7: 4, 0x8: 8, 0x9: 16}
    code = draw.choice(
        [0xA1, 0xA1, 0xA1, 0xA3, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x50, 0x51, 0x52, 0x53,
         0x54, 0x55, 0x56, 0x60, 0x61, 0x70, 0x71, 0x72, 0x73, 0x80, 0x81, 0x82, 0x83, 0x84, 0x94,
         0x98, 0xB1, 0xA0, 0x00]
    )  # fmt: skip
    if code == 0xB1:
        return b"\xb1" + struct.pack(">I", len(name)) + name
    if code >= 0xA0:
        return bytes((code, len(name))) + name
    if code == 0x00:
        return b"\x00\x53\x01\x40"
    return bytes((code,)) + draw.randbytes(width.get(code >> 4, 0))
