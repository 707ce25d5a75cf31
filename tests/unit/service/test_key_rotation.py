"""The key ring's life: which keys count, which one signs, and what outlives a restart."""

import pytest

from hotpath.auth.sas import KeyRing, issue, read_sas
from hotpath.model.errors import Invalid, LimitReached, NotFound, Unauthorized, Unavailable
from hotpath.ports import LogFailure
from hotpath.service.keys import FIRST_KEY, KeyRotation
from hotpath.storage.memory import MemoryStore
from tests.support.clock import ManualClock


class Rig:
    def __init__(self):
        self.store, self.clock = MemoryStore(), ManualClock()

    async def start(self, **options):
        """What a start of the service finds."""
        ring = KeyRing([])
        keys = KeyRotation(self.store, ring, self.clock, **{"keys_max": 10, **options})
        await keys.open()
        return keys, ring

    def reads(self, token, ring):
        try:
            read_sas(token, ring, now_ms=self.clock.now_ms())
        except Unauthorized:
            return False
        return True

    def token(self, ring):
        return issue(
            ring.current,
            "amqp://h/variables/Subscriptions/x",
            expires_s=self.clock.now_ms() // 1000 + 60,
        )


@pytest.fixture
def rig():
    return Rig()


async def test_the_first_start_makes_a_key_and_the_next_one_finds_it(rig):
    _, first = await rig.start()
    _, second = await rig.start()

    assert first.current.name == FIRST_KEY
    assert second.current == first.current


async def test_the_newest_key_signs_and_tokens_of_older_ones_stay_valid(rig):
    keys, ring = await rig.start()
    old = rig.token(ring)

    await rig.clock.advance(1000)
    await keys.add("next", None)

    assert ring.current.name == "next"
    assert rig.reads(old, ring)
    assert rig.reads(rig.token(ring), ring)
    assert [keys.signs(kept) for kept in keys.all()] == [False, True]


async def test_a_retired_keys_tokens_are_refused_also_after_a_restart(rig):
    keys, ring = await rig.start()
    old = rig.token(ring)
    await keys.add("next", None)
    new = rig.token(ring)

    await keys.retire(FIRST_KEY)
    _, later = await rig.start()

    for each in (ring, later):
        assert not rig.reads(old, each)
        assert rig.reads(new, each)
        assert each.current.name == "next"


async def test_a_new_key_signs_even_when_the_machines_time_went_back(rig):
    keys, ring = await rig.start()
    rig.clock.jump_wall(-3_600_000)

    await keys.add("next", None)
    _, later = await rig.start()

    assert ring.current.name == later.current.name == "next"


async def test_a_tenants_key_counts_and_never_signs_for_the_service(rig):
    keys, ring = await rig.start()

    await keys.add("plant", "acme")

    assert ring.current.name == FIRST_KEY
    assert ring.get("plant").tenant == "acme"


async def test_the_only_key_that_signs_cannot_be_retired(rig):
    keys, ring = await rig.start()
    await keys.add("plant", "acme")

    with pytest.raises(Invalid, match="add another first"):
        await keys.retire(FIRST_KEY)
    assert ring.current.name == FIRST_KEY


async def test_only_a_retired_key_is_removed_and_then_its_name_is_free(rig):
    keys, _ = await rig.start()
    await keys.add("plant", "acme")

    with pytest.raises(Invalid, match="retire it first"):
        await keys.remove("plant")
    await keys.retire("plant")
    with pytest.raises(Invalid, match="already"):
        await keys.add("plant", "acme")
    await keys.remove("plant")
    await keys.add("plant", "acme")

    assert [kept.key.name for kept in keys.all()] == [FIRST_KEY, "plant"]


@pytest.mark.parametrize("act", ["retire", "remove"])
async def test_an_unknown_key_is_not_found(rig, act):
    keys, _ = await rig.start()

    with pytest.raises(NotFound):
        await getattr(keys, act)("nobody")


@pytest.mark.parametrize(
    ("name", "tenant"),
    [
        ("", None),
        ("a b", None),
        ("x" * 129, None),
        ("ok", ""),
        ("ok", " "),
        ("ok", "a\nb"),
        ("ok", "x" * 129),
        (FIRST_KEY, None),
    ],
    ids=["empty", "blank", "long", "no tenant", "blank tenant", "control", "long tenant", "taken"],
)
async def test_bad_names_are_refused_and_change_nothing(rig, name, tenant):
    keys, ring = await rig.start()

    with pytest.raises(Invalid):
        await keys.add(name, tenant)
    assert len(keys.all()) == len(ring) == 1


async def test_there_is_a_bound_on_keys(rig):
    keys, _ = await rig.start(keys_max=2)
    await keys.add(None, None)

    with pytest.raises(LimitReached):
        await keys.add(None, None)


@pytest.mark.parametrize("act", ["add", "retire", "remove"])
async def test_a_change_that_is_not_durable_has_not_happened(rig, monkeypatch, act):
    keys, ring = await rig.start()
    await keys.add("plant", "acme")
    if act == "remove":
        await keys.retire("plant")
    before = keys.all(), len(ring)

    async def fail(*_):
        raise LogFailure("no space", full=True)

    monkeypatch.setattr(rig.store, "put", fail)
    monkeypatch.setattr(rig.store, "delete", fail)
    with pytest.raises(Unavailable):
        await (keys.add("more", None) if act == "add" else getattr(keys, act)("plant"))

    assert (keys.all(), len(ring)) == before


async def test_an_unreadable_record_is_left_out_and_its_secret_not_told(rig, caplog):
    await rig.store.put(
        "keys", "bad", {"id": "bad name", "secret": "S3NTINEL", "tenant": None, "created_ms": 1}
    )

    _, ring = await rig.start()

    assert ring.current.name == FIRST_KEY
    assert "key unreadable" in caplog.text
    assert "S3NTINEL" not in caplog.text


async def test_a_key_of_the_first_release_counts(rig):
    record = {"id": "hotpath", "secret": "s" * 43, "tenant": None, "created_ms": 5}
    await rig.store.put("keys", "hotpath", record)

    _, ring = await rig.start()

    assert ring.current.secret == "s" * 43
