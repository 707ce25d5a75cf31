"""What is there before a stop or a kill is there after the next start."""

import json
import os
import signal
import threading
import time

import pytest
from proton import Condition, Message, symbol, timestamp
from proton.utils import BlockingConnection

from tests.e2e.feeds import elsewhere, over_amqp, quality_of, receive_all
from tests.support.process import (
    Server,
    access_of,
    amqp_connection,
    embedded_only,
    eventually,
    run_command,
    running_server,
)

pytestmark = [pytest.mark.slow, pytest.mark.interop]

SCHEDULED = symbol("x-opt-scheduled-enqueue-time")
#: Later than the next start; three nodes on two processors take longer.
DUE_MS = 15_000 if os.environ.get("HOTPATH_TEST_CLUSTER") else 4_000
STABLE = ("subscriptionId", "type", "filter", "subscriptionTTL", "sasTokenTTL", "createdAt")


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


def facts(number):
    return {"objectId": "o", "variable": "v", "value": number, "quality": number}


def stop_cleanly(server):
    assert server.stop() == 0


def kill(server):
    server.kill()


def settle_some(access):
    """Accept 0 to 2, abandon 3, set 4 aside, leave the others; all of it durable at the return."""
    with amqp_connection(access.host, access.token) as connection:
        receiver = connection.create_receiver(access.address, credit=5)
        for number in range(5):
            message = receiver.receive(timeout=5)
            assert quality_of(message) == number
            if number < 3:
                receiver.accept()
            elif number == 3:
                receiver.release(delivered=True)
            else:
                delivery = receiver.fetcher.unsettled[0]
                delivery.local.condition = Condition(
                    "com.microsoft:dead-letter", "bad", {symbol("DeadLetterReason"): "too odd"}
                )
                receiver.reject()


@pytest.mark.parametrize("end", [stop_cleanly, kill], ids=["SIGTERM", "SIGKILL"])
def test_a_restart_keeps_everything(data_dir, end):
    with running_server(data_dir) as server:
        feed = server.subscribe("quality >= 0")
        untouched = server.subscribe("quality > 5")
        other = server.subscribe("objectId = 'o'", topic="events")
        deleted = server.subscribe("quality >= 0")
        publisher = access_of(server.call("POST", "/publishers/variables"))
        server.publish([facts(number) for number in range(10)])
        server.publish({"objectId": "o", "event": "e"}, topic="events")
        settle_some(feed)
        assert server.call("DELETE", f"/subscriptions/variables/{deleted.id}").status == 204
        due = Message(
            body=json.dumps(facts(77)).encode(),
            annotations={SCHEDULED: timestamp(int(time.time() * 1000) + DUE_MS)},
        )
        over_amqp(server, "acme", [due])
        # An answered message on the same log: what was settled before it is durable too.
        server.publish({"objectId": "o", "event": "fence"}, topic="events")
        before = server.call("GET", "/subscriptions").body["data"]

        end(server)
        server.start()

        def figures_agree():
            after = server.call("GET", "/subscriptions").body["data"]
            # On a busy machine the scheduled message is due by now, and counts.
            return len(after) == len(before) and all(
                [now[n] for n in (*STABLE, "deadLettered")]
                == [then[n] for n in (*STABLE, "deadLettered")]
                and now["backlog"] - then["backlog"] in (0, int(now["type"] == "variables"))
                for now, then in zip(after, before, strict=True)
            )

        eventually(figures_agree)
        assert {entry["subscriptionId"] for entry in before} == {feed.id, untouched.id, other.id}
        feed, untouched = elsewhere(feed, server), elsewhere(untouched, server)
        messages = receive_all(feed)
        due_by_now = messages[6:]
        assert [quality_of(message) for message in messages[:6]] == [3, 5, 6, 7, 8, 9]
        assert [message.delivery_count for message in messages[:6]] == [1, 0, 0, 0, 0, 0]
        assert [quality_of(message) for message in due_by_now] in ([], [77])
        dead = type(feed)(feed.id, f"{feed.url}/$DeadLetterQueue", feed.token)
        [letter] = receive_all(dead)
        assert quality_of(letter) == 4
        assert letter.properties["DeadLetterReason"] == "too odd"

        eventually(lambda: server.shown(untouched)["backlog"] == 5, seconds=60)
        assert [quality_of(message) for message in receive_all(untouched)] == [6, 7, 8, 9, 77]
        send_one(elsewhere(publisher, server))
        assert server.shown(feed)["backlog"] == 2 - len(due_by_now)


def send_one(publisher):
    with amqp_connection(publisher.host, publisher.token) as connection:
        connection.create_sender(publisher.address).send(Message(properties={"quality": 1}))


@pytest.mark.parametrize("end", [stop_cleanly, kill], ids=["SIGTERM", "SIGKILL"])
def test_sequence_numbers_go_on_after_a_restart(data_dir, end):
    with running_server(data_dir) as server:
        access = server.subscribe("quality >= 0")
        server.publish([facts(1), facts(2)])
        first = [m.annotations["x-opt-sequence-number"] for m in receive_all(access)]
        # What a receiver settles by itself is durable with the next answered message.
        server.publish({"objectId": "o", "event": "fence"}, topic="events")

        end(server)
        server.start()
        server.publish([facts(3), facts(4)])

        access = elsewhere(access, server)
        second = [m.annotations["x-opt-sequence-number"] for m in receive_all(access)]
    assert len(first) == len(second) == 2
    assert first[-1] < second[0] < second[1]


def test_sigterm_ends_within_its_bound_with_clients_attached(data_dir):
    with running_server(data_dir, drain_seconds=3) as server:
        access = server.subscribe("quality >= 0")
        server.publish([facts(number) for number in range(4)])
        connection = BlockingConnection(
            access.host,
            user="any",
            password=access.token,
            allowed_mechs="PLAIN",
            allow_insecure_mechs=True,
            timeout=10,
        )
        receiver = connection.create_receiver(access.address, credit=4)
        assert quality_of(receiver.receive(timeout=5)) == 0
        begun = time.monotonic()

        assert server.stop() == 0

        assert time.monotonic() - begun < 3 + 3
        assert "Traceback" not in server.stderr.read_text()
        connection.conn.free()
        server.start()
        messages = receive_all(elsewhere(access, server))
    assert [quality_of(message) for message in messages] == [0, 1, 2, 3]
    assert [message.delivery_count for message in messages] == [0, 0, 0, 0]


def test_sigterm_ends_within_its_bound_with_a_client_that_reads_nothing(data_dir):
    with running_server(data_dir, drain_seconds=2) as server:
        access = server.subscribe("quality >= 0")
        connection = BlockingConnection(
            access.host,
            user="any",
            password=access.token,
            allowed_mechs="PLAIN",
            allow_insecure_mechs=True,
            timeout=10,
        )
        # Credit for all of it, and from here on nothing is read from the socket.
        connection.create_receiver(access.address, credit=10_000)
        for _ in range(12):
            server.publish([{**facts(n), "value": "x" * 10_000} for n in range(100)])
        begun = time.monotonic()

        assert server.stop() == 0

        assert time.monotonic() - begun < 2 + 3
        connection.conn.free()
        server.start()
        eventually(lambda: server.shown(access)["backlog"] == 1200)


def test_what_is_answered_during_a_stop_is_kept_and_what_is_not_is_refused(data_dir):
    accepted = []
    with running_server(data_dir) as server:
        access = server.subscribe("quality >= 0")
        token = server.token()

        def publish_on():
            for number in range(100_000):
                try:
                    answer = server.call("POST", "/messages/variables", facts(number), token=token)
                except OSError:
                    return
                if answer.status != 202:
                    assert answer.status == 503
                    return
                accepted.append(number)

        publisher = threading.Thread(target=publish_on)
        publisher.start()
        eventually(lambda: len(accepted) > 20)

        assert server.stop() == 0
        publisher.join(20)

        server.start()
        received = [quality_of(m) for m in receive_all(elsewhere(access, server))]
    assert received[: len(accepted)] == accepted
    assert len(received) <= len(accepted) + 1


def test_sigint_ends_it_as_well(data_dir):
    with running_server(data_dir) as server:
        server.process.send_signal(signal.SIGINT)

        assert server.wait() == 0


@embedded_only
def test_a_second_server_on_the_same_directory_is_refused(data_dir):
    with running_server(data_dir) as server:
        ended = run_command(
            "serve", "--data-dir", str(data_dir), "--http", "127.0.0.1:0", "--amqp", "127.0.0.1:0"
        )

        assert ended.returncode == 1
        assert ended.stdout == ""
        lines = [line for line in ended.stderr.splitlines() if "rror" in line]
        assert len(lines) == 1
        assert str(data_dir) in lines[0]
        assert "Traceback" not in ended.stderr
        server.subscribe("quality >= 0")


def test_a_busy_port_is_refused_with_what_to_do(data_dir, tmp_path):
    with running_server(data_dir) as server:
        taken = server.urls["amqp"].removeprefix("amqp://")

        ended = run_command(
            "serve", "--data-dir", str(tmp_path / "other"), "--http", "127.0.0.1:0", "--amqp", taken
        )

    assert ended.returncode == 1
    assert taken in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_directory_is_closed_to_others(data_dir):
    server = Server(data_dir)
    try:
        server.start()
        files = list(data_dir.iterdir())
        assert data_dir.stat().st_mode & 0o077 == 0
        assert files
        assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    finally:
        server.close()


def test_a_token_from_the_command_line_opens_the_service(data_dir):
    with running_server(data_dir) as server:
        made = run_command(
            "token", "--data-dir", str(data_dir), "--tenant", "acme", "--scope", "hotpath.subscribe"
        )
        ended = run_command("token", "--data-dir", str(data_dir), "--minutes", "-5")

        token = made.stdout.strip()
        assert server.call("GET", "/subscriptions", token=token).status == 200
        assert server.call("POST", "/messages/variables", facts(1), token=token).status == 403
        refused = server.call("GET", "/subscriptions", token=ended.stdout.strip())
    assert refused.status == 401
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
