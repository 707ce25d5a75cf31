"""Random identifiers: of the right shape, and never twice."""

import uuid

import pytest

from hotpath.model import chance
from hotpath.model.chance import RandomPage, random_bits, random_hex, random_uuid


def test_an_identifier_is_a_random_uuid_in_its_usual_spelling() -> None:
    text = random_uuid()

    assert str(uuid.UUID(text)) == text
    assert uuid.UUID(text).version == 4
    assert uuid.UUID(text).variant == uuid.RFC_4122
    assert uuid.UUID(random_hex()).version == 4


def test_identifiers_do_not_come_twice_over_many_pages() -> None:
    assert len({random_uuid() for _ in range(3_000)}) == 3_000


@pytest.mark.parametrize("count", [1, 5, 8, 48])
def test_a_number_has_no_more_bits_than_wanted(count: int) -> None:
    numbers = {random_bits(count) for _ in range(200)}

    assert max(numbers) < 2**count
    assert len(numbers) > 1


def test_no_byte_is_given_out_twice(monkeypatch) -> None:
    pages = iter([bytes(range(256)) * 16, b"\xff" * 4_096])
    monkeypatch.setattr(chance.os, "urandom", lambda _count: next(pages))
    page = RandomPage()

    assert page.take(100) + page.take(100) == bytes(range(200))
    page.take(4_096 - 210)
    # What is left of a page is not enough, and is thrown away.
    assert page.take(16) == b"\xff" * 16
