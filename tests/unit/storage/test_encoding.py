"""Bytes at rest come back as they were, and damaged ones raise Damaged and nothing else."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hotpath.model.names import SubscriptionId
from hotpath.model.subscription import Progress, ProgressDelta
from hotpath.storage.encoding import (
    Damaged,
    Forgotten,
    batch_crc,
    decode_body,
    decode_journal,
    decode_progress,
    encode_body,
    encode_delta,
    encode_deltas,
    encode_forgotten,
    encode_progress,
    journal_crc,
    note_first,
    payload_crc,
    progress_crc,
)

seqs = st.integers(0, (1 << 63) - 1)
names = st.text(st.characters(codec="utf-8"), max_size=40).map(SubscriptionId)
deltas = st.builds(
    ProgressDelta,
    cursor=seqs,
    settled=st.lists(seqs, max_size=5).map(tuple),
    counts=st.lists(st.tuples(seqs, seqs), max_size=5).map(tuple),
    deferred=st.lists(st.tuples(seqs, st.booleans()), max_size=5).map(tuple),
    active_ms=st.none() | seqs,
    settled_total=seqs,
    delivered_total=seqs,
    modified=st.lists(st.tuples(seqs, st.binary(max_size=20)), max_size=3).map(tuple),
)
entries = st.lists(st.builds(Forgotten, names) | st.tuples(names, deltas), max_size=6)


def encode(found):
    return b"".join(
        encode_forgotten(entry.subscription)
        if isinstance(entry, Forgotten)
        else encode_delta(*entry)
        for entry in found
    )


nothing = st.just(())
usual_deltas = st.builds(
    ProgressDelta,
    cursor=seqs,
    settled=st.lists(seqs, max_size=5).map(tuple),
    counts=nothing,
    deferred=nothing,
    active_ms=st.none() | seqs,
    settled_total=seqs,
    delivered_total=seqs,
    modified=nothing,
)


@given(st.lists(st.tuples(names, usual_deltas | deltas), max_size=6))
def test_entries_written_together_are_those_written_one_by_one(progress):
    assert encode_deltas(progress) == [encode_delta(*item) for item in progress]


def test_the_first_number_of_a_subscription_is_kept():
    first = {SubscriptionId("a"): 3}
    delta = ProgressDelta(1)

    note_first(first, [(SubscriptionId("a"), delta), (SubscriptionId("b"), delta)], 7)

    assert first == {"a": 3, "b": 7}


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=40))
def test_payloads_round_trip(payloads):
    assert decode_body(encode_body(payloads), len(payloads)) == payloads


@given(st.binary(max_size=60), st.integers(-3, 70))
@example(b"\x00\x00\x00\x01\x00\x00\x00\x00", 2)  # the first end is far behind the second
def test_any_body_gives_payloads_or_damaged(body, count):
    try:
        payloads = decode_body(body, count)
    except Damaged:
        return
    assert len(payloads) == count
    assert encode_body(payloads) == body


def apart(entry):
    """A delta as it is stored: what messages were given has an entry each."""
    if isinstance(entry, Forgotten):
        return [entry]
    name, delta = entry
    given_to = [(name, ProgressDelta(0, modified=(each,))) for each in delta.modified]
    return [(name, delta._replace(modified=())), *given_to]


@given(entries)
def test_journal_entries_round_trip(found):
    body = encode(found)

    stored = decode_journal(7, crc=journal_crc(7, body), body=body)

    assert stored == [part for entry in found for part in apart(entry)]


@given(deltas)
def test_a_delta_means_the_same_whole_and_apart(delta):
    whole, parts = Progress(0), Progress(0)

    whole.apply(delta)
    for _, part in apart((SubscriptionId("s"), delta)):
        parts.apply(part)

    assert parts == whole


@given(st.binary(max_size=300) | entries.map(encode), st.data())
def test_any_journal_gives_entries_or_damaged(body, data):
    cut = body[: data.draw(st.integers(0, len(body)))]
    try:
        found = decode_journal(7, crc=journal_crc(7, cut), body=cut)
    except Damaged:
        return
    assert isinstance(found, list)


@pytest.mark.parametrize(("row", "change"), [(8, b""), (7, b"x")], ids=["row", "content"])
def test_a_journal_row_is_bound_to_its_number_and_content(row, change):
    body = encode_forgotten(SubscriptionId("s"))

    with pytest.raises(Damaged):
        decode_journal(row, crc=journal_crc(7, body), body=body + change)


progresses = st.builds(
    Progress,
    horizon=seqs,
    unsettled=st.sets(seqs, max_size=5),
    settled=st.sets(seqs, max_size=5),
    counts=st.dictionaries(seqs, seqs, max_size=5),
    deferred=st.sets(seqs, max_size=5),
    active_ms=seqs,
    settled_total=seqs,
    delivered_total=seqs,
    matched_total=seqs,
    counted_to=seqs,
    modified=st.dictionaries(seqs, st.binary(max_size=20), max_size=3),
)


@given(names, progresses)
def test_snapshots_round_trip(name, progress):
    text = encode_progress(progress)

    assert decode_progress(name, 5, crc=progress_crc(name, 5, text), text=text) == progress


@given(
    st.text(st.characters(codec="utf-8"), max_size=60)
    | st.sampled_from(["[]", "7", "[1,2]", '{"a":1}', "[1,[[]],[],[],[],0,0,0,0,0]", "[" * 9999])
    | st.sampled_from(["7", "[]", '"x"', '{"1":7}', '{"x":"00"}', '{"1":"0g"}']).map(
        "[1,[],[],[],[],0,0,0,0,0,{}]".format
    )
)
def test_any_snapshot_text_gives_progress_or_damaged(text):
    try:
        decode_progress("s", 1, crc=progress_crc("s", 1, text), text=text)
    except Damaged:
        return


def test_checksums_cover_every_part_of_their_rows():
    batch = {
        batch_crc(segment, key, body)
        for segment in (1, 2)
        for key in ((1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2))
        for body in (b"x", b"y")
    }
    letters = {
        payload_crc(seq, at_ms, texts, payload)
        for seq in (1, 2)
        for at_ms in (1, 2)
        for texts in (("ab", "c"), ("a", "bc"))
        for payload in (b"", b"x")
    }

    assert (len(batch), len(letters)) == (16, 16)
