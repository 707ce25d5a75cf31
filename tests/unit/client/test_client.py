"""Publisher and feed against a peer on Proton's own container: what is asked, cut, refused."""

import asyncio
import time

import pytest
from proton import Message

from hotpath.client.connection import connect, read_url
from hotpath.client.errors import Detached, Gone, MessageRefused, Refused, Unreachable
from hotpath.client.feed import Feed
from hotpath.client.message import FeedMessage
from hotpath.client.publisher import Publisher
from hotpath.client.rest import Access, read_refusal
from hotpath.client.times import token_end_ms
from hotpath.model.names import Topic
from tests.unit.client.peer import Peer

TOKEN = "SharedAccessSignature sr=x&sig=y&se=4000000000&skn=k"


class Desk:
    """The REST calls that publisher and feed make, answered from here."""

    def __init__(self, peer):
        self.peer = peer
        self.renewals = 0
        self.token = TOKEN
        self.refusal = None

    async def open_publisher(self, topic):
        return Access("p", f"{self.peer.url}/{topic.value}", TOKEN)

    async def renew(self, topic, identity):
        if self.refusal:
            raise self.refusal
        self.renewals += 1
        return self.access(self.token)

    def access(self, token=TOKEN):
        return Access("s1", f"{self.peer.url}/variables/Subscriptions/s1", token)


@pytest.fixture
def peer():
    with Peer() as running:
        yield running


async def until(reached):
    """Wait for the peer's thread; what it has seen cannot wake this loop."""
    async with asyncio.timeout(10):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def take(feed, count):
    taken = []
    async for delivery in feed.deliveries():
        taken.append(FeedMessage.decode(delivery.encoded).to_object()["n"])
        if len(taken) == count:
            delivery.settle()
            feed.session.flush_soon()
            break
    return taken


def encoded(body):
    return bytes(Message(body=body).encode())


def numbered(*numbers):
    return [Message(body=f'{{"n": {n}}}'.encode()) for n in numbers]


async def test_published_messages_arrive_in_order_and_are_accepted(peer):
    async with Publisher(Desk(peer), Topic.VARIABLES, window=50) as publisher:
        for n in range(300):
            await publisher.put(Topic.VARIABLES, encoded(n))
        await publisher.flush()

        assert publisher.accepted == 300
        assert publisher.outstanding == 0
    assert [body for _, body in peer.published] == list(range(300))


async def test_token_is_put_before_anything_is_attached(peer):
    async with Publisher(Desk(peer), Topic.EVENTS):
        assert peer.tokens == [
            (f"{peer.url}/events", TOKEN, "servicebus.windows.net:sastoken"),
        ]


async def test_refused_message_is_told_by_its_reference(peer):
    peer.reject_bodies = (3,)
    async with Publisher(Desk(peer), Topic.VARIABLES) as publisher:
        for n in range(6):
            await publisher.put(Topic.VARIABLES, encoded(n), f"line {n}")
        with pytest.raises(MessageRefused, match="rejected the message: no good") as caught:
            await publisher.flush()

    assert caught.value.reference == "line 3"


async def test_publisher_sends_again_after_a_cut_what_was_not_accepted(peer):
    peer.credit = 5
    async with Publisher(Desk(peer), Topic.VARIABLES) as publisher:
        for n in range(200):
            await publisher.put(Topic.VARIABLES, encoded(n))
            if n == 100:
                await until(lambda: peer.published)
                peer.tell("cut")
        await publisher.flush()

        assert publisher.accepted == 200
    assert {body for _, body in peer.published} == set(range(200))


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        ("amqp:not-found", Gone),
        ("amqp:unauthorized-access", Detached),
        ("amqp:not-allowed", Detached),
    ],
)
async def test_refused_attach_fails_at_once(peer, refusal, error):
    peer.refuse_attach = refusal

    with pytest.raises(error, match="not for you"):
        async with Publisher(Desk(peer), Topic.VARIABLES):
            pass


async def test_refused_token_fails_at_once(peer):
    peer.refuse_tokens = True

    with pytest.raises(Detached, match="as you wish"):
        async with Publisher(Desk(peer), Topic.VARIABLES):
            pass


async def test_feed_gives_messages_in_order_and_settles_them(peer):
    desk = Desk(peer)
    peer.to_deliver.extend(numbered(*range(5)))
    feed = Feed(desk, Topic.VARIABLES, desk.access())
    await feed.start()

    assert await take(feed, 5) == [0, 1, 2, 3, 4]

    await until(lambda: len(peer.outcomes) == 5)
    await feed.close()
    assert set(peer.outcomes) == {"accepted"}


async def test_feed_with_a_count_takes_no_more_than_that(peer):
    desk = Desk(peer)
    peer.to_deliver.extend(numbered(*range(20)))
    feed = Feed(desk, Topic.VARIABLES, desk.access(), count=7)
    await feed.start()

    taken = [delivery async for delivery in feed.deliveries()]
    await feed.close()

    assert len(taken) == 7
    assert len(peer.to_deliver) == 13


async def test_feed_comes_back_after_a_cut(peer):
    desk = Desk(peer)
    feed = Feed(desk, Topic.VARIABLES, desk.access())
    cuts = []
    feed.session.on_cut = cuts.append
    await feed.start()
    peer.to_deliver.extend(numbered(1))
    peer.tell("deliver")
    assert await take(feed, 1) == [1]

    peer.tell("cut")
    await until(lambda: cuts)
    peer.to_deliver.extend(numbered(2))
    peer.tell("deliver")

    assert await take(feed, 1) == [2]
    assert "restarting" in cuts[0]
    await feed.close()


async def test_feed_renews_its_token_on_the_live_link(peer):
    desk = Desk(peer)
    soon = int(time.time()) + 1
    feed = Feed(desk, Topic.VARIABLES, desk.access(f"SharedAccessSignature sr=x&se={soon}&skn=k"))
    await feed.start()

    await until(lambda: len(peer.tokens) == 2)

    assert feed.renewed == 1
    assert peer.tokens[1][1] == TOKEN
    peer.to_deliver.extend(numbered(1))
    peer.tell("deliver")
    assert await take(feed, 1) == [1]
    await feed.close()


async def test_feed_attaches_again_with_a_new_token_when_its_own_has_ended(peer):
    desk = Desk(peer)
    feed = Feed(desk, Topic.VARIABLES, desk.access())
    await feed.start()

    peer.tell("detach", "amqp:unauthorized-access")
    await until(lambda: desk.renewals)
    peer.to_deliver.extend(numbered(4))
    peer.tell("deliver")

    assert await take(feed, 1) == [4]
    await feed.close()


async def test_feed_ends_when_its_subscription_is_deleted(peer):
    desk = Desk(peer)
    feed = Feed(desk, Topic.VARIABLES, desk.access())
    await feed.start()
    peer.tell("detach", "amqp:resource-deleted")

    with pytest.raises(Gone, match="told to"):
        await take(feed, 1)
    await feed.close()


async def test_feed_ends_when_the_token_cannot_be_had_because_it_is_gone(peer):
    desk = Desk(peer)
    desk.refusal = Refused(404, [])
    feed = Feed(desk, Topic.VARIABLES, desk.access())
    await feed.start()
    peer.tell("detach", "amqp:unauthorized-access")

    with pytest.raises(Gone, match="does not exist any more"):
        await take(feed, 1)
    await feed.close()


async def test_nobody_listening_is_unreachable(unused_tcp_port):
    with pytest.raises(Unreachable, match="Connection refused"):
        await connect(f"amqp://127.0.0.1:{unused_tcp_port}")


async def test_large_message_crosses_in_many_frames(peer):
    body = "x" * 300_000
    async with Publisher(Desk(peer), Topic.VARIABLES) as publisher:
        await publisher.put(Topic.VARIABLES, encoded(body))
        await publisher.flush()
    assert peer.published[0][1] == body


async def test_connections_come_and_go_without_a_trace(peer):
    for _ in range(50):
        connection = await connect(peer.url)
        await connection.put_token(audience="a", token=TOKEN)
        await connection.close()

    assert len(peer.tokens) == 50


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("amqp://h", ("h", 5672, False)),
        ("amqps://h/variables", ("h", 5671, True)),
        ("amqp://[::1]:7/x", ("::1", 7, False)),
    ],
)
def test_url_parts(url, parts):
    assert read_url(url) == parts


@pytest.mark.parametrize("url", ["http://h", "amqp://", "h:5672"])
def test_other_urls_are_refused(url):
    with pytest.raises(ValueError, match="amqp"):
        read_url(url)


@pytest.mark.parametrize(
    ("token", "end"),
    [
        ("SharedAccessSignature sr=a&sig=b&se=123&skn=k", 123_000),
        ("SharedAccessSignature se=5&sr=a", 5_000),
        ("a.b.c", None),
        ("SharedAccessSignature sr=a&sig=bse=1", None),
    ],
)
def test_end_of_a_token(token, end):
    assert token_end_ms(token) == end


def test_service_errors_are_read_with_all_details():
    raw = b'{"errors": [{"title": "BadRequest", "detail": "one"}, {"detail": "two"}]}'

    error = read_refusal(400, raw)

    assert str(error) == "one\ntwo"
    assert [each.detail for each in error.problems] == ["one", "two"]


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[]", b'{"errors": 5}', b'{"errors": [1]}'])
def test_error_answer_of_another_kind_shows_its_status(raw):
    assert str(read_refusal(502, raw)) == "the service answered 502"
