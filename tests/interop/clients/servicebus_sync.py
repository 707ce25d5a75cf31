"""azure-servicebus for Python, the synchronous client."""

import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from azure.servicebus import (
    ServiceBusClient,
    ServiceBusMessage,
    ServiceBusReceiveMode,
    ServiceBusSubQueue,
)
from azure.servicebus.exceptions import ServiceBusError
from protocol import call, serve
from servicebus_options import TOPIC, connection_string, with_credential

WAIT = 10


class Feed:
    """A new subscription, and a client for it."""

    def __init__(self, options: dict, mode: str = "plain") -> None:
        self.base = int(options["base"])
        made = call("subscribe", base=self.base)
        self.id, self.address, self.filter = made["id"], made["address"], made["filter"]
        token = call("token", path=self.address)["token"]
        text, more = connection_string(options, token, mode=mode)
        self.client = ServiceBusClient.from_connection_string(
            text, retry_backoff_factor=0.2, **more
        )

    def receiver(self, **more):
        more.setdefault("max_wait_time", WAIT)
        return self.client.get_subscription_receiver(TOPIC, self.id, **more)

    def publish(self, count: int = 1, **more) -> None:
        call("publish", base=self.base, count=count, **more)

    def state(self) -> dict[str, int]:
        return {key: int(value) for key, value in call("state", id=self.id).items()}

    def expect(self, **wanted: int) -> None:
        """Wait for what the service says: clients before 7.15 settle without an answer."""
        end = time.monotonic() + 15
        while not wanted.items() <= (state := self.state()).items():
            assert time.monotonic() < end, (state, wanted)
            time.sleep(0.02)


@contextmanager
def feed(options: dict, count: int = 1, mode: str = "plain", **more):
    made = Feed(options, mode)
    with made.client, made.receiver(**more) as receiver:
        if count:
            made.publish(count)
        yield made, receiver


def value(message) -> int:
    return message.application_properties[b"value"]


def take(receiver, count: int = 1) -> list:
    """So many messages."""
    got: list = []
    deadline = time.monotonic() + WAIT
    while len(got) < count and time.monotonic() < deadline:
        got += receiver.receive_messages(max_message_count=count - len(got), max_wait_time=3)
    assert len(got) == count, f"{len(got)} of {count} messages"
    return got


def complete(options):
    with feed(options, 3) as (made, receiver):
        got = take(receiver, 3)
        assert [value(message) for message in got] == [made.base + n for n in range(3)]
        assert got[0].delivery_count == 0
        assert got[0].sequence_number > 0
        assert got[0].enqueued_time_utc is not None
        for message in got:
            receiver.complete_message(message)
        made.expect(backlog=0, deferred=0, dead=0, locked=0, receivers=1)


def abandon(options):
    with feed(options) as (_made, receiver):
        [message] = take(receiver)
        receiver.abandon_message(message)
        [again] = take(receiver)
        assert again.delivery_count == 1
        assert again.sequence_number == message.sequence_number
        receiver.complete_message(again)


def dead_letter(options):
    with feed(options) as (made, receiver):
        [message] = take(receiver)
        receiver.dead_letter_message(message, reason="broken", error_description="very")
        made.expect(dead=1)
        made.expect(backlog=0)


def dead_letter_queue(options):
    with feed(options) as (made, receiver):
        [message] = take(receiver)
        receiver.dead_letter_message(message, reason="broken", error_description="very")
        with made.receiver(sub_queue=ServiceBusSubQueue.DEAD_LETTER) as dead:
            assert [value(each) for each in dead.peek_messages()] == [made.base]
            [letter] = take(dead)
            assert letter.dead_letter_reason == "broken"
            assert letter.dead_letter_error_description == "very"
            assert letter.sequence_number == message.sequence_number
            dead.renew_message_lock(letter)
            dead.complete_message(letter)
        made.expect(dead=0)


def defer(options):
    with feed(options, 2) as (made, receiver):
        first, second = take(receiver, 2)
        receiver.defer_message(first)
        receiver.defer_message(second)
        made.expect(deferred=2)
        numbers = [first.sequence_number, second.sequence_number]
        assert [int(m.state) for m in receiver.peek_messages(2, sequence_number=numbers[0])] == [
            1,
            1,
        ]
        [again] = receiver.receive_deferred_messages(numbers[0])
        assert value(again) == made.base
        assert again.lock_token
        receiver.renew_message_lock(again)
        receiver.complete_message(again)
        [other] = receiver.receive_deferred_messages([numbers[1]])
        receiver.abandon_message(other)
        [other] = receiver.receive_deferred_messages([numbers[1]])
        assert other.delivery_count == 1
        receiver.dead_letter_message(other, reason="late")
        made.expect(dead=1)
        try:
            receiver.receive_deferred_messages([numbers[0]])
        except ServiceBusError:
            pass
        else:
            raise AssertionError("a settled message was received again")


def renew(options):
    with feed(options) as (_made, receiver):
        [message] = take(receiver)
        before = message.locked_until_utc
        time.sleep(1.1)
        until = receiver.renew_message_lock(message)
        assert until > before, (until, before)
        receiver.complete_message(message)


def receive_and_delete(options):
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    with feed(options, 3, receive_mode=mode) as (made, receiver):
        got = take(receiver, 3)
        assert [value(message) for message in got] == [made.base + n for n in range(3)]
        made.expect(backlog=0)


def peek(options):
    with feed(options, 5) as (made, receiver):
        [held] = take(receiver)
        peeked = receiver.peek_messages(max_message_count=10, sequence_number=1)
        assert [value(message) for message in peeked] == [made.base + n for n in range(5)]
        rest = receiver.peek_messages(10, sequence_number=peeked[3].sequence_number)
        assert [value(message) for message in rest] == [made.base + 3, made.base + 4]
        assert receiver.peek_messages(1, sequence_number=peeked[4].sequence_number + 1) == []
        receiver.complete_message(held)
        made.expect(backlog=4)


def stream(options):
    with feed(options, 0) as (made, receiver):
        made.publish(10)
        seen = []
        for message in receiver:
            seen.append(value(message) - made.base)
            receiver.complete_message(message)
            if len(seen) == 10:
                call("publish", base=made.base + 10, count=10)
            if len(seen) == 20:
                break
        assert seen == list(range(20))
        made.expect(backlog=0)


def _after(options, disturb):
    """A stream that is disturbed goes on; what had not been settled comes again."""
    with feed(options, 3) as (made, receiver):
        seen: set[int] = set()
        disturbed = False
        for message in receiver:
            seen.add(value(message) - made.base)
            receiver.complete_message(message)
            if len(seen) == 3 and not disturbed:
                disturbed = True
                disturb(made)
                call("publish", base=made.base + 3, count=3)
            if len(seen) == 6:
                break
        assert seen == set(range(6)), seen
        made.expect(backlog=0)


def reconnect_close(options):
    _after(options, lambda _: call("close"))


def reconnect_restart(options):
    _after(options, lambda _: call("restart"))


def reconnect_detach(options):
    _after(options, lambda made: call("detach", address=made.address))


def token_renewal(options):
    made = call("subscribe", base=options["base"])
    base, seconds = int(options["base"]), 6
    token = call("token", path=made["address"], seconds=seconds)["token"]
    credential, more = with_credential(options, token)
    with ServiceBusClient("localhost", credential, **more) as client:  # noqa: SIM117  # shorter lines
        with client.get_subscription_receiver(TOPIC, made["id"], max_wait_time=20) as receiver:
            call("publish", base=base)
            started, seen = time.monotonic(), 0
            for message in receiver:
                receiver.complete_message(message)
                seen += 1
                credential.update(call("token", path=made["address"], seconds=seconds)["token"])
                if time.monotonic() - started > seconds + 2:
                    break
                time.sleep(0.5)
                call("publish", base=base)
    assert seen > seconds, seen


def token_expiry(options):
    made = call("subscribe", base=options["base"])
    token = call("token", path=made["address"], seconds=4)["token"]
    credential, more = with_credential(options, token)
    with ServiceBusClient("localhost", credential, retry_total=0, **more) as client:  # noqa: SIM117  # shorter lines
        with client.get_subscription_receiver(TOPIC, made["id"]) as receiver:
            call("publish", base=options["base"])
            receiver.complete_message(take(receiver)[0])
            failed = False
            try:
                for _ in range(5):
                    receiver.receive_messages(max_wait_time=2)
            except Exception as error:  # noqa: BLE001  # whatever it is, it is told
                failed = (
                    "Authentication" in str(type(error))
                    or "xpired" in str(error)
                    or "uthoriz" in str(error)
                )
            assert failed, "the token's end was not noticed"
            credential.update(call("token", path=made["address"])["token"])
            call("publish", base=options["base"])
            receiver.complete_message(take(receiver)[0])


def _sender(options, made):
    token = call("publisher")["token"]
    text, more = connection_string(options, token, mode="plain")
    return ServiceBusClient.from_connection_string(text, **more)


def _message(made, offset: int = 0, body: bytes = b'{"x": 1}', **more):
    return ServiceBusMessage(body, application_properties={"value": made.base + offset}, **more)


def send_single(options):
    with feed(options, 0) as (made, receiver), _sender(options, made) as client:
        with client.get_topic_sender(TOPIC) as sender:
            sender.send_messages(_message(made, subject="hello", message_id="m1"))
        [got] = take(receiver)
        assert value(got) == made.base
        assert (got.subject, got.message_id) == ("hello", "m1")
        receiver.complete_message(got)


def send_batch(options):
    with feed(options, 0) as (made, receiver), _sender(options, made) as client:
        with client.get_topic_sender(TOPIC) as sender:
            batch = sender.create_message_batch()
            for offset in range(50):
                batch.add_message(_message(made, offset))
            sender.send_messages(batch)
            sender.send_messages([_message(made, 50), _message(made, 51)])
        got = take(receiver, 52)
        assert [value(each) - made.base for each in got] == list(range(52))
        numbers = [each.sequence_number for each in got]
        assert numbers[:50] == list(range(numbers[0], numbers[0] + 50))
        assert numbers == sorted(set(numbers))
        for each in got:
            receiver.complete_message(each)


def send_scheduled(options):
    with feed(options, 0) as (made, receiver), _sender(options, made) as client:
        with client.get_topic_sender(TOPIC) as sender:
            soon = datetime.now(UTC) + timedelta(seconds=2)
            numbers = sender.schedule_messages([_message(made, n) for n in range(3)], soon)
            assert len(set(numbers)) == 3
            sender.cancel_scheduled_messages(numbers[1])
            sender.send_messages(_message(made, 3, scheduled_enqueue_time_utc=soon))
            sender.send_messages(_message(made, 4))
            got = take(receiver, 4)
        offsets = [value(each) - made.base for each in got]
        assert offsets[0] == 4, offsets
        assert sorted(offsets) == [0, 2, 3, 4], offsets
        assert all(each.enqueued_time_utc >= soon - timedelta(milliseconds=1) for each in got[1:])
        for each in got:
            receiver.complete_message(each)


def send_large(options):
    body = b"L" * 900_000
    with feed(options, 0) as (made, receiver), _sender(options, made) as client:
        with client.get_topic_sender(TOPIC) as sender:
            sender.send_messages(_message(made, body=body))
        [got] = take(receiver)
        assert b"".join(got.body) == body
        [seen] = receiver.peek_messages(sequence_number=got.sequence_number)
        assert b"".join(seen.body) == body
        receiver.complete_message(got)


def tls(options):
    _over(options, "tls")


def websocket(options):
    _over(options, "websocket")


def websocket_without_tls(options):
    _over(options, "websocket without TLS")


def _over(options, mode: str):
    with feed(options, 2, mode) as (made, receiver):
        first, second = take(receiver, 2)
        receiver.renew_message_lock(first)
        receiver.complete_message(first)
        receiver.abandon_message(second)
        [again] = take(receiver)
        receiver.complete_message(again)
        made.expect(backlog=0)


def prefetch(options):
    with feed(options, 0, prefetch_count=50) as (made, receiver):
        made.publish(200)
        seen = [value(message) - made.base for message in _completing(receiver, 200)]
        assert seen == list(range(200))
        made.expect(backlog=0)


def _completing(receiver, count: int):
    got = 0
    while got < count:
        messages = receiver.receive_messages(max_message_count=count - got, max_wait_time=5)
        assert messages, f"{got} of {count}"
        for message in messages:
            yield message
            receiver.complete_message(message)
            got += 1


def ten_receivers(options):
    made = Feed(options)
    seen: list[int] = []
    with made.client:
        receivers = [made.receiver(max_wait_time=2) for _ in range(10)]
        threads = [threading.Thread(target=_drain, args=(each, seen)) for each in receivers]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + WAIT
        while made.state()["receivers"] < 10 and time.monotonic() < deadline:
            time.sleep(0.1)
        made.publish(200)
        for thread in threads:
            thread.join()
        assert sorted(seen) == [made.base + n for n in range(200)], len(seen)
        made.expect(backlog=0)


def _drain(receiver, seen: list[int]) -> None:
    with receiver:
        while messages := receiver.receive_messages(max_message_count=5, max_wait_time=4):
            for message in messages:
                seen.append(value(message))
                receiver.complete_message(message)


SCENARIOS = {
    "complete": complete,
    "abandon": abandon,
    "dead-letter": dead_letter,
    "dead-letter queue": dead_letter_queue,
    "defer": defer,
    "renew": renew,
    "receive and delete": receive_and_delete,
    "peek": peek,
    "stream": stream,
    "reconnect after a close": reconnect_close,
    "reconnect after a restart": reconnect_restart,
    "reconnect after a detach": reconnect_detach,
    "token renewal": token_renewal,
    "token expiry": token_expiry,
    "send": send_single,
    "send a batch": send_batch,
    "send scheduled": send_scheduled,
    "send 900 KB": send_large,
    "TLS": tls,
    "WebSocket": websocket,
    "WebSocket without TLS": websocket_without_tls,
    "prefetch": prefetch,
    "ten receivers": ten_receivers,
}

if __name__ == "__main__":
    serve(SCENARIOS)
