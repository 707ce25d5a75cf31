"""HTTP bytes of any kind end in an answer below 500 and leave nothing behind."""

import random

import pytest

from tests.fuzz.http_world import running_http_world

SEED = 20261122
MUTATIONS = 1_500


@pytest.fixture
async def world(tmp_path, watch):
    async with running_http_world(tmp_path, watch) as running:
        yield running


async def test_good_requests_are_understood(world):
    answers = [await world.feed([template]) for template in world.templates()]

    assert {201, 202, 200, 204, 404} <= {status for answer in answers for status in answer}
    assert all(len(answer) == 1 for answer in answers)


async def test_mutated_requests_are_answered_below_500(world):
    print("seed", SEED)
    rng, templates = random.Random(SEED), world.templates()
    seen: set[int] = set()
    for _ in range(MUTATIONS):
        reads = world.mutated(rng, rng.choice(templates))
        try:
            seen.update(await world.feed(reads))
        except Exception as error:
            error.add_note(f"reads: {reads!r}")
            raise

    assert {400, 401, 404, 202} <= seen


@pytest.mark.parametrize("answered", ["unread", "in the middle"])
async def test_who_goes_away_in_the_middle_of_a_body_leaves_nothing_behind(world, answered):
    token = world.token if answered == "in the middle" else "none"
    lines = f"POST /messages/variables HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
    head = f"{lines}Content-Type: application/x-ndjson\r\nContent-Length: 900\r\n\r\n".encode()

    await world.feed([head, b'{"objectId": 5}\n' if answered == "in the middle" else b""])
