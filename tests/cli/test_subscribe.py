"""`hotpath subscribe` against the running service: what it prints, and how it ends."""

import json
import os
import pty
import signal
import subprocess

import pytest

from tests.cli.conftest import FREE_PORTS
from tests.cli.service import HOTPATH, ndjson, read_line, reading


def publish(service, *messages):
    result = service.run("publish", "variables", stdin=ndjson(messages))
    assert result.returncode == 0, result.stderr


def test_exactly_the_matching_messages_come_in_order(service):
    publish(service, *(reading(n, objectId=f"o{n % 3}") for n in range(30)))

    result = service.run(
        *("subscribe", "variables", "--filter", "objectId = 'o1' AND value > 10"),
        *("--start-from", "earliest", "--count", "6"),
    )

    assert [json.loads(line)["value"] for line in result.stdout.splitlines()] == [
        13, 16, 19, 22, 25, 28,
    ]  # fmt: skip
    assert result.returncode == 0


def test_subscription_is_deleted_at_the_end_of_the_count(service):
    publish(service, reading(1))

    service.run("subscribe", "variables", "--start-from", "earliest", "--count", "1")

    assert service.subscriptions() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_signal_deletes_the_subscription_and_exits_with_0(service, number):
    process = service.spawn("subscribe", "variables")
    service.until_subscribed()

    process.send_signal(number)
    _, said = process.communicate(timeout=20)

    assert process.returncode == 0, said
    assert service.subscriptions() == []


def test_reader_that_has_enough_ends_it(service):
    process = service.spawn("subscribe", "variables")
    service.until_subscribed()
    publish(service, reading(1))
    read_line(process, 20)

    process.stdout.close()
    publish(service, reading(2), reading(3))
    process.wait(timeout=20)

    assert process.returncode == 0
    assert process.stderr.read() == ""
    process.stderr.close()
    assert service.subscriptions() == []


def test_bad_filter_is_shown_under_a_caret(service):
    result = service.run("subscribe", "variables", "--filter", "objctId = 'x'")

    assert result.returncode == 1
    assert "objctId" in result.stderr
    assert "^" in result.stderr
    assert "objectId" in result.stderr


def test_feed_outlives_its_tokens(service):
    # Five API minutes are one second here.
    process = service.spawn("subscribe", "variables", "--ttl", "3000", "--token-ttl", "5")
    (found,) = service.until_subscribed()
    service.until_called("renewToken", found["subscriptionId"], times=2)

    publish(service, reading(7))

    assert json.loads(read_line(process, 20)) == reading(7)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (0, "")


def test_feed_survives_a_killed_service(own_service):
    service = own_service(*FREE_PORTS)
    ports = [f"--{name}={service.urls[name].split('://')[1]}" for name in ("http", "amqp")]
    process = service.spawn("subscribe", "variables")
    service.until_subscribed()
    publish(service, reading(1))
    assert json.loads(read_line(process, 20)) == reading(1)

    service.kill()
    service.start(*ports)
    publish(service, reading(2))

    numbers = []
    while 2 not in numbers:  # the first may come again: its settlement may have been lost
        numbers.append(json.loads(read_line(process, 30))["value"])
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "coming back" in said
    assert service.subscriptions() == []


def test_deleted_subscription_ends_its_reader_with_1(service):
    process = service.spawn("subscribe", "variables")
    (found,) = service.until_subscribed()

    deleted = service.run("delete", found["subscriptionId"])
    _, said = process.communicate(timeout=20)

    assert deleted.stdout == f"deleted {found['subscriptionId']}\n"
    assert process.returncode == 1
    assert "the subscription was deleted" in said


def test_messages_are_text_on_a_terminal(service):
    publish(service, reading(5))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*HOTPATH, "subscribe", "variables", "--start-from", "earliest", "--count", "1"],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=service.environment(TERM="dumb", COLUMNS="100"),
    )
    os.close(theirs)
    shown = os.read(ours, 65_536)
    _, said = process.communicate(timeout=20)
    os.close(ours)

    assert shown == b"00:00:05.000  pump-01        flow = 5  good\r\n"
    assert b"Ctrl-C ends it" in said


def test_other_tenants_see_nothing(service):
    publish(service, reading(1))

    elsewhere = {"HOTPATH_TENANT": "somebody-else"}
    theirs = service.run("publish", "variables", stdin=ndjson([reading(2)]), **elsewhere)
    assert theirs.returncode == 0, theirs.stderr

    # Published before theirs, ours would come first.
    process = service.run(
        *("subscribe", "variables", "--start-from", "earliest", "--count", "1"), **elsewhere
    )

    assert [json.loads(line)["value"] for line in process.stdout.splitlines()] == [2]
