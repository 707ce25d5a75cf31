"""A data directory of the first release opens with all it holds; one of a later release does not."""

import json
import sqlite3

import pytest

from hotpath.auth.sas import SigningKey, issue, read_sas
from hotpath.model.message import DeadLetter
from hotpath.model.names import SubscriptionId, TenantId, Topic, TopicKey
from hotpath.storage.sqlite.database import SqliteDatabase
from hotpath.storage.sqlite.log import SqliteLog
from hotpath.storage.sqlite.migrations import MIGRATIONS
from tests.security.process import COMMAND, run
from tests.support.clock import ManualClock
from tests.support.database_v1 import NOW_MS, PUBLISHER, SECRET, SUBSCRIPTION, make_v1, message
from tests.support.services import eventually

EVENTS = TopicKey(TenantId("acme"), Topic.EVENTS)
FEED = SubscriptionId(SUBSCRIPTION)


async def test_log_and_progress_of_the_first_release_are_read_as_written(tmp_path):
    contents = make_v1(tmp_path)
    log = SqliteLog(SqliteDatabase(tmp_path))

    recovered = await log.open()
    batches = await log.read(EVENTS, 1, bytes_max=1 << 20)
    [letter] = await log.dead_letters(FEED, from_seq=1, limit=10)
    await log.close()

    assert recovered.damage == []
    assert recovered.alive_ms == NOW_MS
    assert recovered.progress[FEED].cursor == contents.settled_below
    assert [batch.first_seq for batch in batches] == [1, 3]
    payloads = [payload for batch in batches for payload in batch.payloads]
    assert payloads == [message(event) for event in contents.events]
    assert isinstance(letter, DeadLetter)
    assert (letter.seq, letter.reason, letter.payload) == (1, "bad", payloads[0])


async def test_a_service_goes_on_where_the_first_release_stopped(whole, tmp_path):
    make_v1(tmp_path)
    clock = ManualClock(wall_ms=NOW_MS)
    async with whole(tmp_path, clock=clock) as service:
        core = service.app.core
        subscription = core.admin.find(Topic.EVENTS, SUBSCRIPTION)
        await eventually(lambda: subscription.counted)

        figures = core.admin.figures(subscription.spec)
        assert (figures.backlog, figures.delivered, figures.dead_lettered) == (2, 1, 1)
        assert subscription.spec.generation == 0
        assert core.publishers.get(PUBLISHER).tenant == "acme"
        assert core.ring.current == SigningKey("hotpath", SECRET, None, NOW_MS - 4000)
        path = f"/subscriptions/events/{SUBSCRIPTION}"
        old = issue(
            core.ring.current, f"amqp://h/events/Subscriptions/{SUBSCRIPTION}", expires_s=2**33
        )
        assert read_sas(old, core.ring, now_ms=NOW_MS)
        # What the first release did not know is written beside what it left.
        assert (await service.call("POST", f"{path}/revoke"))[0] == 204
        assert (await service.call("POST", "/admin/keys", json={"name": "next"}))[0] == 201
        event = {"objectId": "pump-7", "event": "started"}
        assert (await service.call("POST", "/messages/events", json=event))[0] == 202

    async with whole(tmp_path, clock=clock) as service:
        core = service.app.core
        subscription = core.admin.find(Topic.EVENTS, SUBSCRIPTION)
        await eventually(lambda: subscription.counted)
        assert subscription.spec.generation == 1
        assert core.admin.figures(subscription.spec).backlog == 3
        assert [kept.key.name for kept in core.keys.all()] == ["hotpath", "next"]


async def test_opening_brings_the_schema_up_to_date(tmp_path):
    make_v1(tmp_path)
    log = SqliteLog(SqliteDatabase(tmp_path))
    await log.open()
    await log.close()

    connection = sqlite3.connect(tmp_path / "hotpath.db")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    numbers = [row[0] for row in connection.execute("SELECT number FROM migration ORDER BY number")]
    connection.close()
    assert version == MIGRATIONS[-1].number
    assert numbers == [migration.number for migration in MIGRATIONS]


@pytest.mark.slow
async def test_a_directory_of_a_later_release_is_refused_and_left_alone(tmp_path):
    make_v1(tmp_path)
    path = tmp_path / "hotpath.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 1000")
    connection.close()

    code, out, err = await run(
        *COMMAND,
        "serve",
        "--data-dir",
        str(tmp_path),
        "--http",
        "127.0.0.1:0",
        "--amqp",
        "127.0.0.1:0",
    )

    assert (code, out) == (1, "")
    assert "newer release" in err
    assert "Traceback" not in err
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1000,)
        assert connection.execute("SELECT count(*) FROM batches_1").fetchone() == (2,)
    connection.close()


def test_the_fixture_is_the_form_that_a_payload_has():
    event = {"objectId": "a", "event": "b", "timestamp": "2024-01-01T00:00:00Z"}

    raw = message(event)

    assert json.loads(raw[raw.index(b"{") :]) == event
