"""azure-servicebus for Python, the asyncio client."""

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from azure.servicebus import (
    ServiceBusMessage,
    ServiceBusReceiveMode,
    ServiceBusSubQueue,
)
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import ServiceBusError
from protocol import call, serve
from servicebus_options import TOPIC, connection_string, with_credential

WAIT = 10


async def ask(command: str, **fields: object) -> dict[str, str]:
    """Ask the operator; the event loop goes on meanwhile."""
    return await asyncio.to_thread(call, command, **fields)


class Feed:
    """A new subscription, and a client for it."""

    @classmethod
    async def open(cls, options: dict, mode: str = "plain") -> "Feed":
        made = await ask("subscribe", base=options["base"])
        token = (await ask("token", path=made["address"]))["token"]
        return cls(options, made, token, mode)

    def __init__(self, options: dict, made: dict, token: str, mode: str) -> None:
        self.base = int(options["base"])
        self.id, self.address, self.filter = made["id"], made["address"], made["filter"]
        text, more = connection_string(options, token, mode=mode)
        self.client = ServiceBusClient.from_connection_string(
            text, retry_backoff_factor=0.2, **more
        )

    def receiver(self, **more):
        more.setdefault("max_wait_time", WAIT)
        return self.client.get_subscription_receiver(TOPIC, self.id, **more)

    async def publish(self, count: int = 1, **more) -> None:
        await ask("publish", base=self.base, count=count, **more)

    async def state(self) -> dict[str, int]:
        return {key: int(value) for key, value in (await ask("state", id=self.id)).items()}

    async def expect(self, **wanted: int) -> None:
        """Wait for what the service says: clients before 7.15 settle without an answer."""
        end = time.monotonic() + 15
        while not wanted.items() <= (state := await self.state()).items():
            assert time.monotonic() < end, (state, wanted)
            await asyncio.sleep(0.02)


@asynccontextmanager
async def feed(options: dict, count: int = 1, mode: str = "plain", **more):
    made = await Feed.open(options, mode)
    async with made.client, made.receiver(**more) as receiver:
        if count:
            await made.publish(count)
        yield made, receiver


def value(message) -> int:
    return message.application_properties[b"value"]


async def take(receiver, count: int = 1) -> list:
    """So many messages."""
    got: list = []
    deadline = time.monotonic() + WAIT
    while len(got) < count and time.monotonic() < deadline:
        got += await receiver.receive_messages(max_message_count=count - len(got), max_wait_time=3)
    assert len(got) == count, f"{len(got)} of {count} messages"
    return got


async def complete(options):
    async with feed(options, 3) as (made, receiver):
        got = await take(receiver, 3)
        assert [value(message) for message in got] == [made.base + n for n in range(3)]
        assert got[0].delivery_count == 0
        assert got[0].sequence_number > 0
        assert got[0].enqueued_time_utc is not None
        for message in got:
            await receiver.complete_message(message)
        await made.expect(backlog=0, deferred=0, dead=0, locked=0, receivers=1)


async def abandon(options):
    async with feed(options) as (_made, receiver):
        [message] = await take(receiver)
        await receiver.abandon_message(message)
        [again] = await take(receiver)
        assert again.delivery_count == 1
        assert again.sequence_number == message.sequence_number
        await receiver.complete_message(again)


async def dead_letter(options):
    async with feed(options) as (made, receiver):
        [message] = await take(receiver)
        await receiver.dead_letter_message(message, reason="broken", error_description="very")
        await made.expect(dead=1)
        await made.expect(backlog=0)


async def dead_letter_queue(options):
    async with feed(options) as (made, receiver):
        [message] = await take(receiver)
        await receiver.dead_letter_message(message, reason="broken", error_description="very")
        async with made.receiver(sub_queue=ServiceBusSubQueue.DEAD_LETTER) as dead:
            assert [value(each) for each in (await dead.peek_messages())] == [made.base]
            [letter] = await take(dead)
            assert letter.dead_letter_reason == "broken"
            assert letter.dead_letter_error_description == "very"
            assert letter.sequence_number == message.sequence_number
            await dead.renew_message_lock(letter)
            await dead.complete_message(letter)
        await made.expect(dead=0)


async def defer(options):
    async with feed(options, 2) as (made, receiver):
        first, second = await take(receiver, 2)
        await receiver.defer_message(first)
        await receiver.defer_message(second)
        await made.expect(deferred=2)
        numbers = [first.sequence_number, second.sequence_number]
        assert [
            int(m.state) for m in await receiver.peek_messages(2, sequence_number=numbers[0])
        ] == [1, 1]
        [again] = await receiver.receive_deferred_messages(numbers[0])
        assert value(again) == made.base
        assert again.lock_token
        await receiver.renew_message_lock(again)
        await receiver.complete_message(again)
        [other] = await receiver.receive_deferred_messages([numbers[1]])
        await receiver.abandon_message(other)
        [other] = await receiver.receive_deferred_messages([numbers[1]])
        assert other.delivery_count == 1
        await receiver.dead_letter_message(other, reason="late")
        await made.expect(dead=1)
        try:
            await receiver.receive_deferred_messages([numbers[0]])
        except ServiceBusError:
            pass
        else:
            raise AssertionError("a settled message was received again")


async def renew(options):
    async with feed(options) as (_made, receiver):
        [message] = await take(receiver)
        before = message.locked_until_utc
        await asyncio.sleep(1.1)
        until = await receiver.renew_message_lock(message)
        assert until > before, (until, before)
        await receiver.complete_message(message)


async def receive_and_delete(options):
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    async with feed(options, 3, receive_mode=mode) as (made, receiver):
        got = await take(receiver, 3)
        assert [value(message) for message in got] == [made.base + n for n in range(3)]
        await made.expect(backlog=0)


async def peek(options):
    async with feed(options, 5) as (made, receiver):
        [held] = await take(receiver)
        peeked = await receiver.peek_messages(max_message_count=10, sequence_number=1)
        assert [value(message) for message in peeked] == [made.base + n for n in range(5)]
        rest = await receiver.peek_messages(10, sequence_number=peeked[3].sequence_number)
        assert [value(message) for message in rest] == [made.base + 3, made.base + 4]
        assert await receiver.peek_messages(1, sequence_number=peeked[4].sequence_number + 1) == []
        await receiver.complete_message(held)
        await made.expect(backlog=4)


async def stream(options):
    async with feed(options, 0) as (made, receiver):
        await made.publish(10)
        seen = []
        async for message in receiver:
            seen.append(value(message) - made.base)
            await receiver.complete_message(message)
            if len(seen) == 10:
                await ask("publish", base=made.base + 10, count=10)
            if len(seen) == 20:
                break
        assert seen == list(range(20))
        await made.expect(backlog=0)


async def _after(options, disturb):
    """A stream that is disturbed goes on; what had not been settled comes again."""
    async with feed(options, 3) as (made, receiver):
        seen: set[int] = set()
        disturbed = False
        async for message in receiver:
            seen.add(value(message) - made.base)
            await receiver.complete_message(message)
            if len(seen) == 3 and not disturbed:
                disturbed = True
                await disturb(made)
                await ask("publish", base=made.base + 3, count=3)
            if len(seen) == 6:
                break
        assert seen == set(range(6)), seen
        await made.expect(backlog=0)


async def reconnect_close(options):
    await _after(options, lambda _: ask("close"))


async def reconnect_restart(options):
    await _after(options, lambda _: ask("restart"))


async def reconnect_detach(options):
    await _after(options, lambda made: ask("detach", address=made.address))


async def token_renewal(options):
    made = await ask("subscribe", base=options["base"])
    base, seconds = int(options["base"]), 6
    token = (await ask("token", path=made["address"], seconds=seconds))["token"]
    credential, more = with_credential(options, token)
    async with ServiceBusClient("localhost", credential, **more) as client:  # noqa: SIM117  # shorter lines
        async with client.get_subscription_receiver(
            TOPIC, made["id"], max_wait_time=20
        ) as receiver:
            await ask("publish", base=base)
            started, seen = time.monotonic(), 0
            async for message in receiver:
                await receiver.complete_message(message)
                seen += 1
                credential.update(
                    (await ask("token", path=made["address"], seconds=seconds))["token"]
                )
                if time.monotonic() - started > seconds + 2:
                    break
                await asyncio.sleep(0.5)
                await ask("publish", base=base)
    assert seen > seconds, seen


async def token_expiry(options):
    made = await ask("subscribe", base=options["base"])
    token = (await ask("token", path=made["address"], seconds=4))["token"]
    credential, more = with_credential(options, token)
    async with ServiceBusClient("localhost", credential, retry_total=0, **more) as client:  # noqa: SIM117  # shorter lines
        async with client.get_subscription_receiver(TOPIC, made["id"]) as receiver:
            await ask("publish", base=options["base"])
            await receiver.complete_message((await take(receiver))[0])
            failed = False
            try:
                for _ in range(5):
                    await receiver.receive_messages(max_wait_time=2)
            except Exception as error:  # noqa: BLE001  # whatever it is, it is told
                failed = (
                    "Authentication" in str(type(error))
                    or "xpired" in str(error)
                    or "uthoriz" in str(error)
                )
            assert failed, "the token's end was not noticed"
            credential.update((await ask("token", path=made["address"]))["token"])
            await ask("publish", base=options["base"])
            await receiver.complete_message((await take(receiver))[0])


async def _sender(options, made):
    token = (await ask("publisher"))["token"]
    text, more = connection_string(options, token, mode="plain")
    return ServiceBusClient.from_connection_string(text, **more)


def _message(made, offset: int = 0, body: bytes = b'{"x": 1}', **more):
    return ServiceBusMessage(body, application_properties={"value": made.base + offset}, **more)


async def send_single(options):
    async with feed(options, 0) as (made, receiver), await _sender(options, made) as client:
        async with client.get_topic_sender(TOPIC) as sender:
            await sender.send_messages(_message(made, subject="hello", message_id="m1"))
        [got] = await take(receiver)
        assert value(got) == made.base
        assert (got.subject, got.message_id) == ("hello", "m1")
        await receiver.complete_message(got)


async def send_batch(options):
    async with feed(options, 0) as (made, receiver), await _sender(options, made) as client:
        async with client.get_topic_sender(TOPIC) as sender:
            batch = await sender.create_message_batch()
            for offset in range(50):
                batch.add_message(_message(made, offset))
            await sender.send_messages(batch)
            await sender.send_messages([_message(made, 50), _message(made, 51)])
        got = await take(receiver, 52)
        assert [value(each) - made.base for each in got] == list(range(52))
        numbers = [each.sequence_number for each in got]
        assert numbers[:50] == list(range(numbers[0], numbers[0] + 50))
        assert numbers == sorted(set(numbers))
        for each in got:
            await receiver.complete_message(each)


async def send_scheduled(options):
    async with feed(options, 0) as (made, receiver), await _sender(options, made) as client:
        async with client.get_topic_sender(TOPIC) as sender:
            soon = datetime.now(UTC) + timedelta(seconds=2)
            numbers = await sender.schedule_messages([_message(made, n) for n in range(3)], soon)
            assert len(set(numbers)) == 3
            await sender.cancel_scheduled_messages(numbers[1])
            await sender.send_messages(_message(made, 3, scheduled_enqueue_time_utc=soon))
            await sender.send_messages(_message(made, 4))
            got = await take(receiver, 4)
        offsets = [value(each) - made.base for each in got]
        assert offsets[0] == 4, offsets
        assert sorted(offsets) == [0, 2, 3, 4], offsets
        assert all(each.enqueued_time_utc >= soon - timedelta(milliseconds=1) for each in got[1:])
        for each in got:
            await receiver.complete_message(each)


async def send_large(options):
    body = b"L" * 900_000
    async with feed(options, 0) as (made, receiver), await _sender(options, made) as client:
        async with client.get_topic_sender(TOPIC) as sender:
            await sender.send_messages(_message(made, body=body))
        [got] = await take(receiver)
        assert b"".join(got.body) == body
        [seen] = await receiver.peek_messages(sequence_number=got.sequence_number)
        assert b"".join(seen.body) == body
        await receiver.complete_message(got)


async def tls(options):
    await _over(options, "tls")


async def websocket(options):
    await _over(options, "websocket")


async def websocket_without_tls(options):
    await _over(options, "websocket without TLS")


async def _over(options, mode: str):
    async with feed(options, 2, mode) as (made, receiver):
        first, second = await take(receiver, 2)
        await receiver.renew_message_lock(first)
        await receiver.complete_message(first)
        await receiver.abandon_message(second)
        [again] = await take(receiver)
        await receiver.complete_message(again)
        await made.expect(backlog=0)


async def prefetch(options):
    async with feed(options, 0, prefetch_count=50) as (made, receiver):
        await made.publish(200)
        seen = [value(message) - made.base async for message in _completing(receiver, 200)]
        assert seen == list(range(200))
        await made.expect(backlog=0)


async def _completing(receiver, count: int):
    got = 0
    while got < count:
        messages = await receiver.receive_messages(max_message_count=count - got, max_wait_time=5)
        assert messages, f"{got} of {count}"
        for message in messages:
            yield message
            await receiver.complete_message(message)
            got += 1


async def ten_receivers(options):
    made = await Feed.open(options)
    seen: list[int] = []
    async with made.client:
        receivers = [made.receiver(max_wait_time=2) for _ in range(10)]
        tasks = [asyncio.ensure_future(_drain(each, seen)) for each in receivers]
        deadline = time.monotonic() + WAIT
        while (await made.state())["receivers"] < 10 and time.monotonic() < deadline:  # noqa: ASYNC110  # the service is asked
            await asyncio.sleep(0.1)
        await made.publish(200)
        await asyncio.gather(*tasks)
        assert sorted(seen) == [made.base + n for n in range(200)], len(seen)
        await made.expect(backlog=0)


async def _drain(receiver, seen: list[int]) -> None:
    async with receiver:
        while messages := await receiver.receive_messages(max_message_count=5, max_wait_time=4):
            for message in messages:
                seen.append(value(message))
                await receiver.complete_message(message)


def _blocking(scenario):
    return lambda options: asyncio.run(scenario(options))


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
    serve({name: _blocking(run) for name, run in SCENARIOS.items()})
