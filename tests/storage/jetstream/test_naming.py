"""Names: any text, none like another, and nothing that a server would take for a path or pattern."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.model.names import SubscriptionId, TenantId, Topic, TopicKey
from hotpath.storage.jetstream.naming import (
    BATCH_NUMBERS,
    Names,
    batch_number,
    first_number,
    token,
)

PLAIN = re.compile(r"[A-Za-z0-9_-]{1,130}")
TEXTS = st.one_of(
    st.text(max_size=300),
    st.text("aA_.*> /\\\0é", max_size=6),
    st.text(st.characters(categories=["Cs"]), max_size=3),
)


@given(TEXTS, TEXTS)
def test_two_texts_never_get_one_name(one, other):
    assert (token(one) == token(other)) == (one == other)
    assert token(one).lower() == token(one)


@given(TEXTS)
def test_a_name_is_plain_and_short(text):
    assert PLAIN.fullmatch(token(text))


@pytest.mark.parametrize("length", [1, 39, 40, 41, 119, 120, 121, 10_000])
@pytest.mark.parametrize("letter", ["a", "A", "é"])
def test_names_of_long_texts_stay_apart(letter, length):
    names = {token(letter * length), token(letter * (length + 1)), token(letter * length + "b")}
    assert len(names) == 3
    assert max(map(len, names)) <= 121


def test_streams_of_different_topics_have_different_names():
    names = Names("hotpath", shards=8)
    tenants = ["a", "A", "a-b", "a.b", "", "*", "k", "ka", "_", "a" * 500]
    keys = [TopicKey(TenantId(tenant), topic) for tenant in tenants for topic in Topic]

    assert len({names.topic_stream(key) for key in keys}) == len(keys)
    assert len({names.topic_subject(key) for key in keys}) == len(keys)
    for key in keys:
        assert PLAIN.fullmatch(names.topic_stream(key)[:120])
        assert "*" not in names.topic_subject(key)


@given(TEXTS, TEXTS)
def test_records_of_different_keys_have_different_subjects(one, other):
    names = Names("p", shards=1)
    assert (names.record("kind", one) == names.record("kind", other)) == (one == other)


@given(TEXTS, TEXTS)
def test_records_are_found_among_those_that_begin_alike(prefix, rest):
    names = Names("p", shards=1)
    pattern = names.records_of("kind", prefix).replace(".", r"\.").replace("*", r"[^.]+")
    assert re.fullmatch(pattern, names.record("kind", prefix + rest))


def test_letters_of_one_subscription_are_nobody_elses():
    names = Names("p", shards=4)
    assert names.letter(SubscriptionId("a"), 5).startswith(names.letters(SubscriptionId("a")) + ".")
    assert names.letters(SubscriptionId("a")) != names.letters(SubscriptionId("A"))


def test_numbers_of_batches_do_not_meet():
    assert first_number(1) == BATCH_NUMBERS
    assert batch_number(first_number(7) + BATCH_NUMBERS - 1) == 7
    assert batch_number(first_number(8)) == 8
    assert batch_number(-5) == 0
