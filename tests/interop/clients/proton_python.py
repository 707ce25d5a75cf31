"""Qpid Proton's own Python client (its blocking API), which knows nothing of the Service Bus."""

import contextlib
import itertools
import time
from collections import deque

from protocol import call, serve
from proton import (
    UNDESCRIBED,
    Array,
    Data,
    Delivery,
    Message,
    SSLDomain,
    int32,
    symbol,
    timestamp,
    uint,
    ulong,
)
from proton.handlers import MessagingHandler
from proton.reactor import AtMostOnce
from proton.utils import BlockingConnection, LinkDetached

TOPIC = "variables"
WAIT = 10

_names = itertools.count()


class Manual(MessagingHandler):
    """Keeps what comes; outcomes are given by hand."""

    def __init__(self) -> None:
        super().__init__(prefetch=0, auto_accept=False)
        self.got: deque = deque()

    def on_message(self, event) -> None:
        self.got.append((event.message, event.delivery))

    def on_connection_error(self, event) -> None:
        pass

    def on_link_error(self, event) -> None:
        event.link.close()


def connect(options, token: str | None, mode: str = "plain") -> BlockingConnection:
    login = {"user": "any", "password": token} if token else {}
    if mode == "tls":
        domain = SSLDomain(SSLDomain.MODE_CLIENT)
        domain.set_trusted_ca_db(options["ca"])
        domain.set_peer_authentication(SSLDomain.VERIFY_PEER_NAME)
        return BlockingConnection(
            f"amqps://localhost:{options['amqps']}", timeout=WAIT, ssl_domain=domain, **login
        )
    mechanisms = "PLAIN" if token else "ANONYMOUS"
    return BlockingConnection(
        f"amqp://localhost:{options['amqp']}", timeout=WAIT,
        allow_insecure_mechs=True, allowed_mechs=mechanisms, **login,
    )  # fmt: skip


class Feed:
    def __init__(self, options, count: int = 1, mode: str = "plain") -> None:
        self.options = options
        self.base = int(options["base"])
        made = call("subscribe", base=self.base)
        self.id, self.address, self.filter = made["id"], made["address"], made["filter"]
        self.token = call("token", path=self.address)["token"]
        self.connection = connect(options, self.token, mode)
        if count:
            self.publish(0, count)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def publish(self, offset: int = 0, count: int = 1) -> None:
        call("publish", base=self.base + offset, count=count)

    def state(self) -> dict[str, int]:
        return {key: int(value) for key, value in call("state", id=self.id).items()}

    def receiver(self, below: str = "", credit: int = 10, options=()):
        return attach(self.connection, self.address + below, credit=credit, options=options)

    def take(self, receiver, count: int = 1) -> list:
        def found():
            return len(receiver.got) >= count

        self.connection.wait(found, timeout=WAIT, msg=f"{count} messages")
        return [receiver.got.popleft() for _ in range(count)]

    def offset(self, message) -> int:
        return message.properties["value"] - self.base

    def settle(self, delivery, state=Delivery.ACCEPTED, **more) -> None:
        for name, value in more.items():
            setattr(delivery.local, name, value)
        delivery.update(state)
        delivery.settle()

    def until(self, **wanted: int) -> None:
        """Wait until the state is as wanted; outcomes are on their way meanwhile."""
        end = time.monotonic() + WAIT
        while {key: self.state()[key] for key in wanted} != wanted:
            assert time.monotonic() < end, (self.state(), wanted)
            self.connection.container.do_work(0.05)


def attach(connection, address, *, credit, options=()):
    """A receiver whose messages are kept, without the outcomes that the blocking API gives."""
    keeper = Manual()
    link = connection.container.create_receiver(
        connection.conn, address, name=f"{address} {next(_names)}", handler=keeper,
        options=list(options),
    )  # fmt: skip
    link.flow(credit)
    answered = link.REMOTE_ACTIVE | link.REMOTE_CLOSED
    connection.wait(lambda: link.state & answered, msg="attach")
    if link.remote_condition:
        raise RuntimeError(link.remote_condition.name)
    keeper.link = link
    return keeper


def complete(options):
    with Feed(options, 3) as feed:
        got = feed.take(feed.receiver(), 3)
        assert [feed.offset(message) for message, _ in got] == [0, 1, 2]
        assert got[0][0].delivery_count == 0
        for _, delivery in got:
            feed.settle(delivery)
        feed.until(backlog=0, locked=0)


def abandon(options):
    with Feed(options) as feed:
        receiver = feed.receiver()
        [(_, delivery)] = feed.take(receiver)
        feed.settle(delivery, Delivery.MODIFIED, failed=True)
        [(again, delivery)] = feed.take(receiver)
        assert again.delivery_count == 1
        feed.settle(delivery, Delivery.RELEASED)
        [(again, delivery)] = feed.take(receiver)
        assert again.delivery_count == 1
        feed.settle(delivery)
        feed.until(backlog=0)


def dead_letter(options):
    with Feed(options) as feed:
        [(_, delivery)] = feed.take(feed.receiver())
        feed.settle(delivery, Delivery.REJECTED)
        feed.until(dead=1, backlog=0)


def dead_letter_queue(options):
    with Feed(options) as feed:
        [(_, delivery)] = feed.take(feed.receiver())
        feed.settle(delivery, Delivery.REJECTED)
        [(letter, delivery)] = feed.take(feed.receiver("/$DeadLetterQueue"))
        assert "DeadLetterReason" in letter.properties
        feed.settle(delivery)
        feed.until(dead=0)


def receive_and_delete(options):
    with Feed(options, 3) as feed:
        got = feed.take(feed.receiver(options=[AtMostOnce()]), 3)
        assert [feed.offset(message) for message, _ in got] == [0, 1, 2]
        feed.until(backlog=0)


class Asking:
    """A node that answers requests."""

    def __init__(self, connection, address: str) -> None:
        self.connection = connection
        self.replies = attach(connection, address, credit=20)
        self.sender = connection.create_sender(address)
        self.number = 0

    def ask(self, operation: str, body, **properties):
        self.number += 1
        properties = {"operation": operation, **properties}
        request = Message(id=ulong(self.number), properties=properties, body=body)
        self.sender.send(request)
        self.connection.wait(lambda: self.replies.got, timeout=WAIT, msg=operation)
        reply, _delivery = self.replies.got.popleft()
        assert reply.correlation_id == self.number, reply
        return reply


def defer(options):
    with Feed(options) as feed:
        [(message, delivery)] = feed.take(feed.receiver())
        number = message.annotations["x-opt-sequence-number"]
        feed.settle(delivery, Delivery.MODIFIED, failed=True, undeliverable=True)
        feed.until(deferred=1)
        node = Asking(feed.connection, feed.address + "/$management")
        numbers = Array(UNDESCRIBED, Data.LONG, number)
        reply = node.ask(
            "com.microsoft:receive-by-sequence-number",
            {"sequence-numbers": numbers, "receiver-settle-mode": uint(1)},
        )
        assert reply.properties["statusCode"] == 200, reply
        [entry] = reply.body["messages"]
        inner = Message()
        inner.decode(bytes(entry["message"]))
        assert feed.offset(inner) == 0
        tokens = Array(UNDESCRIBED, Data.UUID, entry["lock-token"])
        reply = node.ask(
            "com.microsoft:update-disposition",
            {"disposition-status": "completed", "lock-tokens": tokens},
        )
        assert reply.properties["statusCode"] == 200, reply
        feed.until(backlog=0, deferred=0)


def peek(options):
    with Feed(options, 5) as feed:
        node = Asking(feed.connection, feed.address + "/$management")
        body = {"from-sequence-number": 1, "message-count": int32(10)}
        reply = node.ask("com.microsoft:peek-message", body)
        assert len(reply.body["messages"]) == 5
        assert feed.state()["backlog"] == 5


def properties(options):
    with Feed(options) as feed:
        receiver = feed.receiver()
        [(_, delivery)] = feed.take(receiver)
        annotations = {symbol("tries"): int32(1)}
        feed.settle(delivery, Delivery.MODIFIED, failed=True, annotations=annotations)
        [(again, delivery)] = feed.take(receiver)
        assert again.properties["tries"] == 1
        feed.settle(delivery)
        feed.until(backlog=0)


def rules(options):
    with Feed(options, 0) as feed:
        node = Asking(feed.connection, feed.address + "/$management")
        reply = node.ask("com.microsoft:enumerate-rules", {"top": int32(100), "skip": int32(0)})
        [entry] = reply.body["rules"]
        sql_filter, _action, name, *_ = entry["rule-description"].value
        assert (sql_filter.value[0], name) == (feed.filter, "$Default")
        reply = node.ask("com.microsoft:add-rule", {"rule-name": "mine"})
        assert reply.properties["statusCode"] == 501


def stream(options):
    with Feed(options, 0) as feed:
        receiver = feed.receiver(credit=30)
        for start in (0, 10):
            feed.publish(start, 10)
            got = feed.take(receiver, 10)
            assert [feed.offset(message) - start for message, _ in got] == list(range(10))
            for _, delivery in got:
                feed.settle(delivery)
        feed.until(backlog=0)


def _consume(feed, count: int) -> None:
    for _, delivery in feed.take(feed.receiver(), count):
        feed.settle(delivery)
    feed.until(backlog=0)


def _reconnecting(options, command: str):
    """The blocking API does not reconnect by itself: the application connects again."""
    with Feed(options, 3) as feed:
        _consume(feed, 3)
        call(command)
        feed.publish(3, 3)
        with contextlib.suppress(Exception):
            feed.connection.wait(lambda: False, timeout=3)
        feed.connection = connect(options, feed.token)
        _consume(feed, 3)


def reconnect_close(options):
    _reconnecting(options, "close")


def reconnect_restart(options):
    _reconnecting(options, "restart")


def reconnect_detach(options):
    with Feed(options, 3) as feed:
        receiver = feed.receiver()
        for _, delivery in feed.take(receiver, 3):
            feed.settle(delivery)
        feed.until(backlog=0)
        call("detach", address=feed.address)
        with contextlib.suppress(LinkDetached):
            feed.connection.wait(lambda: receiver.link.state & receiver.link.REMOTE_CLOSED)
        assert receiver.link.remote_condition.name == "amqp:link:detach-forced"
        feed.publish(3, 3)
        _consume(feed, 3)


def _put(node: Asking, feed, seconds: int) -> None:
    token = call("token", path=feed.address, seconds=seconds)["token"]
    name = f"amqp://localhost/{feed.address}"
    reply = node.ask("put-token", token, type="servicebus.windows.net:sastoken", name=name)
    assert reply.properties["status-code"] == 200, reply


def _anonymous(options):
    feed = Feed(options, 0)
    feed.connection.close()
    feed.connection = connect(options, None)
    return feed, Asking(feed.connection, "$cbs")


def token_renewal(options):
    feed, node = _anonymous(options)
    with feed:
        _put(node, feed, 3)
        receiver = feed.receiver()
        for n in range(6):
            feed.publish(n)
            [(_, delivery)] = feed.take(receiver)
            feed.settle(delivery)
            time.sleep(1)
            _put(node, feed, 3)
        assert not receiver.link.remote_condition


def token_expiry(options):
    feed, node = _anonymous(options)
    with feed:
        _put(node, feed, 2)
        receiver = feed.receiver()
        feed.publish(0)
        feed.settle(feed.take(receiver)[0][1])
        with contextlib.suppress(LinkDetached):
            feed.connection.wait(lambda: receiver.link.state & receiver.link.REMOTE_CLOSED)
        assert receiver.link.remote_condition.name == "amqp:unauthorized-access"
        _put(node, feed, 60)
        feed.publish(1)
        _consume(feed, 1)


def _message(feed, offset: int = 0, body: bytes = b'{"x": 1}', **more) -> Message:
    return Message(body=body, inferred=True, properties={"value": feed.base + offset}, **more)


def _sending(options, feed):
    connection = connect(options, call("publisher")["token"])
    return connection, connection.create_sender(TOPIC)


def send(options):
    with Feed(options, 0) as feed:
        connection, sender = _sending(options, feed)
        sender.send(_message(feed, id="m1", subject="hello"))
        [(message, delivery)] = feed.take(feed.receiver())
        assert (message.id, message.subject) == ("m1", "hello")
        feed.settle(delivery)
        connection.close()


def send_scheduled(options):
    with Feed(options, 0) as feed:
        connection, sender = _sending(options, feed)
        receiver = feed.receiver()
        due = timestamp(int(time.time() * 1000) + 2000)
        notes = {symbol("x-opt-scheduled-enqueue-time"): due}
        sender.send(_message(feed, 0, annotations=notes))
        sender.send(_message(feed, 1))
        got = feed.take(receiver, 2)
        assert [feed.offset(message) for message, _ in got] == [1, 0]
        connection.close()


def send_large(options):
    body = b"L" * 900_000
    with Feed(options, 0) as feed:
        connection, sender = _sending(options, feed)
        sender.send(_message(feed, body=body))
        [(message, delivery)] = feed.take(feed.receiver())
        assert bytes(message.body) == body
        feed.settle(delivery)
        connection.close()


def tls(options):
    with Feed(options, 2, "tls") as feed:
        _consume(feed, 2)


def prefetch(options):
    with Feed(options, 0) as feed:
        receiver = feed.receiver(credit=50)
        feed.publish(0, 200)
        seen = []
        for _ in range(20):
            for message, delivery in feed.take(receiver, 10):
                seen.append(feed.offset(message))
                feed.settle(delivery)
            receiver.link.flow(10)
        assert seen == list(range(200))
        feed.until(backlog=0)


def ten_receivers(options):
    with Feed(options, 0) as feed:
        receivers = [feed.receiver(credit=200) for _ in range(10)]
        feed.until(receivers=10)
        feed.publish(0, 200)

        def total():
            return sum(len(each.got) for each in receivers)

        feed.connection.wait(lambda: total() == 200, timeout=WAIT)
        seen = []
        for receiver in receivers:
            for message, delivery in receiver.got:
                seen.append(feed.offset(message))
                feed.settle(delivery)
        assert sorted(seen) == list(range(200))
        feed.until(backlog=0)


def thousand(options):
    base = int(options["base"])
    ids = call("subscribeMany", base=base, count=1000)["ids"].split(",")
    connection = connect(options, call("token", path=f"{TOPIC}/Subscriptions")["token"])
    receivers = [attach(connection, f"{TOPIC}/Subscriptions/{each}", credit=5) for each in ids]
    call("publish", base=base)
    connection.wait(lambda: sum(len(each.got) for each in receivers) == 1000, timeout=200)
    connection.close()


SCENARIOS = {
    "complete": complete,
    "abandon": abandon,
    "dead-letter": dead_letter,
    "dead-letter queue": dead_letter_queue,
    "defer": defer,
    "receive and delete": receive_and_delete,
    "peek": peek,
    "properties": properties,
    "rules": rules,
    "stream": stream,
    "reconnect after a close": reconnect_close,
    "reconnect after a restart": reconnect_restart,
    "reconnect after a detach": reconnect_detach,
    "token renewal": token_renewal,
    "token expiry": token_expiry,
    "send": send,
    "send scheduled": send_scheduled,
    "send 900 KB": send_large,
    "TLS": tls,
    "prefetch": prefetch,
    "ten receivers": ten_receivers,
    "a thousand subscriptions": thousand,
}

if __name__ == "__main__":
    serve(SCENARIOS)
