"""A slice of `make cluster-crash`, and that it notices what it is there to notice."""

import json
import os
import subprocess
import sys
import time

import pytest

from hotpath.model.names import SubscriptionId
from hotpath.model.subscription import ProgressDelta
from hotpath.storage.jetstream.frames import Entry, encode_entry
from hotpath.storage.jetstream.server import Stored
from hotpath.storage.jetstream.shardstate import claimed_record, delta_record
from tests.fault.cluster.journal import JournalWatch
from tests.fault.cluster.ledger import Broken, Feed, Ledger
from tests.fault.cluster.rounds import points
from tests.support.nats import MISSING
from tests.support.process import LONG, ROOT

#: Of the slice; `python -m tests.fault.cluster --seed` takes any other.
SEED = 20261122
SLICES = [
    pytest.param((), 1, id="of-everything"),
    pytest.param(
        ("--only", "part"),
        2,
        id="of-servers-parted-from-each-other",
        marks=pytest.mark.skipif(not LONG, reason="long: make test-cluster"),
    ),
]
SUBJECT = "p.journal.3"
SUB = SubscriptionId("sub")


@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.timeout(300)
@pytest.mark.skipif(bool(MISSING), reason=MISSING or "nats-server is there")
@pytest.mark.parametrize(("options", "rounds"), SLICES)
def test_kills_and_cuts_under_load_break_no_promise(tmp_path, options, rounds):
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.fault.cluster", "--rounds", str(rounds), *options]
    command += ["--seed", str(SEED), "--report", str(report), "--seconds", "45"]

    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=280, env=os.environ, check=False
    )

    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]
    told = json.loads(report.read_text())
    assert told["violations"] == []
    assert told["rounds"] > 0
    assert len(told["waited"]) == told["rounds"]
    assert told["counts"]["confirmed accepted"] > 100
    assert told["journal"]["shards claimed"] > 0


@pytest.fixture
def ledger():
    ledger = Ledger()
    ledger.feeds["all"] = Feed("all", "value >= 0")
    return ledger


def test_a_message_that_was_accepted_and_never_comes_is_found(ledger):
    ledger.accepted(ledger.sending(1, ("all",)), "p")

    with pytest.raises(Broken, match="lost"):
        ledger.check({})


def test_one_that_was_refused_may_stay_away(ledger):
    ledger.refused(ledger.sending(1, ("all",)))

    ledger.check({})


def test_a_confirmed_settlement_that_is_undone_is_found(ledger):
    ledger.accepted(ledger.sending(1, ("all",)), "p")
    feed = ledger.feeds["all"]
    ledger.delivered(feed, 1, 4_096)
    ledger.confirmed(feed, 4_096, "accepted")

    with pytest.raises(Broken, match="comes again"):
        ledger.delivered(feed, 1, 4_096)


def test_a_redelivery_before_the_confirmation_is_a_duplicate_and_no_fault(ledger):
    ledger.accepted(ledger.sending(1, ("all",)), "p")
    for _ in range(2):
        ledger.delivered(ledger.feeds["all"], 1, 4_096)

    assert ledger.counts["duplicates"] == 1


def test_a_message_in_a_feed_that_it_does_not_belong_to_is_found(ledger):
    ledger.sending(1, ())

    with pytest.raises(Broken, match="none of its own"):
        ledger.delivered(ledger.feeds["all"], 1, 4_096)


def test_a_lost_dead_letter_is_found(ledger):
    ledger.accepted(ledger.sending(1, ("all",)), "p")
    ledger.delivered(ledger.feeds["all"], 1, 4_096)
    ledger.confirmed(ledger.feeds["all"], 4_096, "rejected")

    with pytest.raises(Broken, match="dead letters are lost"):
        ledger.check({"all": set()})


def test_the_time_that_something_waited_is_a_gap(ledger):
    message = ledger.sending(1, ("all",))
    ledger.accepted(message, "p")
    ledger.feeds["all"].waiting[1] = time.monotonic() - 3

    ledger.delivered(ledger.feeds["all"], 1, 4_096)

    [gap] = ledger.gaps.values()
    assert 3 <= gap < 4
    assert points([gap])["max"] == pytest.approx(gap, abs=0.01)


class Journal:
    """Entries of one shard, handed to a watch."""

    def __init__(self):
        self.watch = JournalWatch(("nats://127.0.0.1:1",), prefix="p")
        self.seq = 0

    def add(self, writer, *records):
        body = b"".join(record.raw for record in records)
        entry = Entry(self.seq, writer.encode().ljust(16, b"."), body)
        self.seq += 1
        self.watch.take(Stored(self.seq, SUBJECT, encode_entry(SUBJECT, entry)))

    def violations(self):
        self.watch.check()
        return self.watch.violations


def settled(cursor):
    return delta_record(SUB, ProgressDelta(cursor))


def test_settlements_of_one_owner_after_the_other_are_as_they_should_be():
    journal = Journal()
    journal.add("node-0", claimed_record("0"))
    journal.add("node-0", settled(5))
    journal.add("node-1", claimed_record("1"))
    journal.add("node-1", settled(9))

    assert journal.violations() == []


def test_a_settlement_in_the_time_of_another_is_found():
    journal = Journal()
    journal.add("node-0", claimed_record("0"))
    journal.add("node-1", claimed_record("1"))
    journal.add("node-0", settled(5))

    assert "writes in the time of" in journal.violations()[0]


def test_a_cursor_that_goes_back_is_found_and_a_journal_written_anew_is_not():
    journal = Journal()
    journal.add("node-0", claimed_record("0"))
    journal.add("node-0", settled(5))
    journal.add("node-0", settled(9))
    journal.add("node-0", settled(5), settled(9))
    assert journal.violations() == []

    journal.add("node-0", settled(7))
    assert "went back" in journal.violations()[0]
