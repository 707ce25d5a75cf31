"""A copy taken while the service works is a data directory: a consistent prefix, keys included."""

import asyncio
import json
import sqlite3
import stat

import pytest

from hotpath.auth.sas import read_sas
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.storage.sqlite.database import SqliteDatabase
from hotpath.storage.sqlite.log import SqliteLog
from tests.security.process import COMMAND, run

pytestmark = pytest.mark.slow
EVENTS = TopicKey(TenantId("acme"), Topic.EVENTS)


def backup(data_dir, target, *options):
    return run(*COMMAND, "backup", str(target), "--data-dir", str(data_dir), *options)


async def published(service, start: int, count: int) -> None:
    lines = [
        {"objectId": "a", "event": str(start + n), "timestamp": "2024-01-01T00:00:00Z"}
        for n in range(count)
    ]
    status, _ = await service.call("POST", "/messages/events", json=lines)
    assert status == 202


async def kept_events(data_dir) -> list[int]:
    """What a log holds, in order."""
    log = SqliteLog(SqliteDatabase(data_dir))
    await log.open()
    found, at = [], 1
    while batches := await log.read(EVENTS, at, bytes_max=1 << 20):
        for batch in batches:
            assert batch.first_seq == at
            bodies = [payload[payload.index(b'{"') :] for payload in batch.payloads]
            found += [int(json.loads(body)["event"]) for body in bodies]
            at += len(batch.payloads)
    await log.close()
    return found


async def test_a_copy_taken_under_load_holds_a_prefix_with_all_that_was_answered_before(
    whole, tmp_path
):
    data_dir, copy = tmp_path / "data", tmp_path / "copy"
    async with whole(data_dir) as service:
        for start in range(0, 2_000, 500):
            await published(service, start, 500)
        taking = asyncio.ensure_future(backup(data_dir, copy, "--check"))
        count = 2_000
        while not taking.done():
            await published(service, count, 50)
            count += 50
        code, _, err = await taking

    assert code == 0, err
    events = await kept_events(copy)
    assert events == list(range(len(events)))
    assert 2_000 <= len(events) <= count
    assert len(events) % 50 == 0  # no half of a request


async def test_a_service_on_the_copy_goes_on_with_keys_and_subscriptions(whole, tmp_path):
    data_dir, copy = tmp_path / "data", tmp_path / "copy"
    wanted = {"subscriptionTTL": 60, "sasTokenTTL": 10, "filter": "event = '1'"}
    async with whole(data_dir) as service:
        _, made = await service.call("POST", "/subscriptions/events", json=wanted)
        token = service.jwt()
        await published(service, 0, 3)
        code, _, err = await backup(data_dir, copy)
        assert code == 0, err

    async with whole(copy) as service:
        path = f"/subscriptions/events/{made['subscriptionId']}"
        # What is in the log is counted again behind the start.
        for _ in range(2_000):
            status, shown = await service.call("GET", path, token=token)
            if shown["backlog"]:
                break
        now_ms = service.app.clock.now_ms()
        claims = read_sas(made["sasToken"], service.app.core.ring, now_ms=now_ms)

        assert (status, shown["backlog"]) == (200, 1)
        assert claims.segments[2] == made["subscriptionId"]
        await published(service, 3, 1)
    assert await kept_events(copy) == [0, 1, 2, 3]


async def test_the_copy_is_the_owners_alone(whole, tmp_path):
    async with whole(tmp_path / "data"):
        await backup(tmp_path / "data", tmp_path / "copy")

    files = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "copy").iterdir()}
    names = ("hotpath.db", "dev-jwt.pem", "webhook-secrets.key")
    assert files == dict.fromkeys(names, 0o600)
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o700


async def test_a_directory_at_rest_is_copied_too(whole, tmp_path):
    async with whole(tmp_path / "data") as service:
        await published(service, 0, 5)

    code, out, _ = await backup(tmp_path / "data", tmp_path / "copy", "--json")

    assert code == 0
    assert json.loads(out)["backup"] == str(tmp_path / "copy")
    assert await kept_events(tmp_path / "copy") == list(range(5))


async def test_what_is_there_is_not_replaced_and_nothing_is_left_behind(whole, tmp_path):
    async with whole(tmp_path / "data"):
        (tmp_path / "copy").mkdir()
        taken = await backup(tmp_path / "data", tmp_path / "copy")
        missing = await backup(tmp_path / "nothing", tmp_path / "other")
        unwritable = await backup(tmp_path / "data", "/proc/nowhere/copy")

    for code, _, err in (taken, missing, unwritable):
        assert code == 1
        assert "Error: " in err
    assert "Traceback" not in unwritable[2]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "data"]


async def test_check_refuses_a_copy_of_a_damaged_file(whole, tmp_path):
    async with whole(tmp_path / "data") as service:
        await published(service, 0, 2_000)
    path = tmp_path / "data" / "hotpath.db"
    connection = sqlite3.connect(path)
    root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'segment_by_topic'")
    page = root.fetchone()[0]
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 64)

    code, _, err = await backup(tmp_path / "data", tmp_path / "copy", "--check")

    assert code == 1
    assert "damaged" in err
    assert not (tmp_path / "copy").exists()
