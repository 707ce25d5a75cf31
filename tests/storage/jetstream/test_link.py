"""Connections: who is let in, what is said when it fails, and that they come back."""

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import nkeys
import pytest
import trustme

from hotpath.model.message import DeadLetter
from hotpath.model.names import SubscriptionId
from hotpath.model.subscription import ProgressDelta
from hotpath.ports import Commit, LogFailure
from hotpath.storage.jetstream.link import Link, Refused, Unanswered, Unserved
from hotpath.storage.jetstream.log import JetStreamLog
from hotpath.storage.jetstream.options import LinkOptions, LogOptions, shown
from hotpath.storage.jetstream.records import JetStreamStore
from tests.support.logs import VARIABLES, append, next_prefix, shared_server
from tests.support.nats import Proxy, free_ports, nats_server
from tests.support.nodes import needs_server, nodes_on, until

pytestmark = needs_server

SECRET = "s3cret-word"


async def opened(options: LinkOptions) -> None:
    link = Link(options)
    try:
        await link.open()
        assert link.is_connected
        assert (await link.api("INFO", {}))["type"].endswith("account_info_response")
    finally:
        await link.close()


async def refused(options: LinkOptions) -> str:
    with pytest.raises(LogFailure) as caught:
        await opened(replace(options, open_seconds=1.0))
    assert SECRET not in caught.value.detail
    assert SECRET not in repr(options)
    return caught.value.detail


# What the settings must be


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (LinkOptions(()), "no NATS server is given"),
        (LinkOptions(("http://a",)), "'http://a' is no address"),
        (LinkOptions(("nats://",)), "is no address"),
        (LinkOptions(("nats://a:99999",)), "is no address"),
        (LinkOptions((f"nats://u:{SECRET}@",)), "is no address"),
        (LinkOptions(("nats://a",), user="u", token=SECRET), "not several"),
        (LinkOptions(("nats://a",), tls_key=Path("k.pem")), "needs its key"),
        (LinkOptions(("nats://a",), nkey=Path("/nowhere/x.nk")), "No such file"),
        (LinkOptions(("nats://a",), credentials=Path("/nowhere/x")), "No such file"),
        (
            LinkOptions(("tls://a",), tls_ca=Path("/nowhere/ca.pem")),
            "TLS to NATS cannot be set up with /nowhere/ca.pem",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_settings_that_cannot_work_are_refused(options, says):
    assert says in await refused(options)


def test_what_stands_before_the_host_is_never_shown():
    assert shown(f"nats://user:{SECRET}@host:4222") == "nats://host:4222"
    assert shown(f"nats://{SECRET}@a@host") == "nats://host"
    assert SECRET not in repr(LinkOptions((f"nats://{SECRET}@h",), password=SECRET, token=SECRET))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"prefix": "a.b"}, "cannot begin the names"),
        ({"prefix": ""}, "cannot begin the names"),
        ({"prefix": "x" * 33}, "cannot begin the names"),
        ({"replicas": 0}, "replicas"),
        ({"replicas": 6}, "replicas"),
        ({"shards": 0}, "shards"),
        ({"duplicate_seconds": 5.0}, "duplicate window"),
    ],
    ids=str,
)
def test_options_of_the_log_that_cannot_work_are_refused(changed, says):
    with pytest.raises(LogFailure, match=says):
        LogOptions(**changed).check()


# Who is let in


async def test_without_a_server_the_failure_names_where_it_looked():
    [port] = free_ports(1)

    says = await refused(LinkOptions((f"nats://user:{SECRET}@127.0.0.1:{port}",)))

    assert f"no connection to NATS at nats://127.0.0.1:{port}" in says


async def test_a_server_without_jetstream_is_refused(tmp_path):
    with nats_server(tmp_path / "n", extra="jetstream: false") as server:
        assert "JetStream" in await refused(LinkOptions((server.url,)))


async def test_a_user_and_its_password(tmp_path):
    users = f'authorization {{ users: [{{ user: me, password: "{SECRET}" }}] }}'
    with nats_server(tmp_path / "n", extra=users) as server:
        await opened(LinkOptions((server.url,), user="me", password=SECRET))
        await opened(LinkOptions((server.url.replace("//", f"//me:{SECRET}@"),)))
        assert "refuses" in await refused(LinkOptions((server.url,), user="me", password="no"))
        assert "refuses" in await refused(LinkOptions((server.url,)))


async def test_a_user_with_just_the_rights_that_are_named_can_do_everything(tmp_path):
    rights = 'publish: ["p.>", "$JS.API.>", "$JS.FC.>"], subscribe: ["_INBOX.>"]'
    users = (
        f"authorization {{ users: [{{ user: me, password: pw, permissions: {{ {rights} }} }}] }}"
    )
    with nats_server(tmp_path / "n", extra=users) as server:
        url = server.url.replace("//", "//me:pw@")
        async with nodes_on(url, prefix="p") as nodes:
            node = await nodes.add()
            heard = []
            await node.log.follow(VARIABLES, 1, heard.append)
            letter = DeadLetter(4, enqueued_ms=1, payload=b"x", reason="r")
            sub = SubscriptionId("s")
            await asyncio.gather(*map(node.log.claim, range(4)))
            for n in range(40):
                work = append(VARIABLES, bytes(500_000), now_ms=n)
                work.progress = [(sub, ProgressDelta(n))]
                work.alive_ms = n
                await node.log.commit(work)
            await node.log.commit(Commit(1, dead=[(sub, letter)]))
            await node.log.commit(Commit(2, dead_removals=[(sub, 4)], forgotten=[sub]))
            await until(lambda: len(heard) == 40)
            assert len(await node.log.read(VARIABLES, 1, bytes_max=9_000_000)) == 18
            assert VARIABLES in await node.log.trim(before_ms=20, bytes_max=5_000_000)
            store = JetStreamStore(node.link, nodes.options)
            await store.put("keys", "k", {"n": 1})
            assert await store.load("keys") == [{"n": 1}]
            await store.delete("keys", ["k"])


async def test_a_token(tmp_path):
    with nats_server(tmp_path / "n", extra=f'authorization {{ token: "{SECRET}" }}') as server:
        await opened(LinkOptions((server.url,), token=SECRET))
        assert "refuses" in await refused(LinkOptions((server.url,), token="no"))


async def test_an_nkey(tmp_path):
    seed = nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER)
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    file = tmp_path / "user.nk"
    file.write_bytes(seed)
    users = f"authorization {{ users: [{{ nkey: {public} }}] }}"
    with nats_server(tmp_path / "n", extra=users) as server:
        await opened(LinkOptions((server.url,), nkey=file))
        assert "refuses" in await refused(LinkOptions((server.url,)))


SEED = nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER)
JWT_LINES = b"-----BEGIN NATS USER JWT-----\nabc\n------END NATS USER JWT------\n"
CREDENTIALS = {
    "nothing": (b"", "no user's JWT"),
    "no marks": (b"abc\n" * 5, "no user's JWT"),
    "no seed": (JWT_LINES, "no user's seed"),
    "a seed cut off": (JWT_LINES + b"-----BEGIN USER NKEY SEED-----\n" + SEED[:20], "no user's"),
    "noise": (bytes(range(256)), "no user's JWT"),
}


@pytest.mark.parametrize(("content", "says"), CREDENTIALS.values(), ids=CREDENTIALS.keys())
async def test_credentials_that_are_none_are_refused(tmp_path, content, says):
    file = tmp_path / "user.creds"
    file.write_bytes(content)
    assert says in await refused(LinkOptions(("nats://a",), credentials=file))
    if b"JWT" not in content:
        assert "no user's seed" in await refused(LinkOptions(("nats://a",), nkey=file))


async def test_credentials_that_are_some_are_taken(tmp_path):
    file = tmp_path / "user.creds"
    lines = b"-----BEGIN USER NKEY SEED-----\n" + SEED + b"\n------END USER NKEY SEED------\n"
    file.write_bytes(JWT_LINES + lines)
    # A server without accounts lets everybody in, whatever they show.
    await opened(LinkOptions((shared_server().url,), credentials=file))


async def test_tls_with_and_without_a_client_certificate(tmp_path):
    authority = trustme.CA()
    paths = {name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key", "mine", "my-key")}
    authority.cert_pem.write_to_path(paths["ca"])
    for names, identity in ((("cert", "key"), "127.0.0.1"), (("mine", "my-key"), "node")):
        issued = authority.issue_cert(identity)
        issued.cert_chain_pems[0].write_to_path(paths[names[0]])
        issued.private_key_pem.write_to_path(paths[names[1]])
    tls = f'cert_file: "{paths["cert"]}", key_file: "{paths["key"]}", ca_file: "{paths["ca"]}"'
    with nats_server(tmp_path / "n", extra=f"tls {{ {tls}, verify: true }}") as server:
        trusted = LinkOptions((server.url.replace("nats:", "tls:"),), tls_ca=paths["ca"])
        await opened(replace(trusted, tls_certificate=paths["mine"], tls_key=paths["my-key"]))
        assert "no connection" in await refused(trusted)
        assert "no connection" in await refused(replace(trusted, tls_ca=None))
    assert isinstance(trusted.tls_context(), ssl.SSLContext)


async def test_servers_that_take_too_little_are_refused(tmp_path):
    with nats_server(tmp_path / "n", max_payload=1_048_576) as server:
        link = Link(LinkOptions((server.url,)))
        await link.open()
        with pytest.raises(LogFailure, match="set max_payload to 2097152 at least"):
            await JetStreamLog(link, LogOptions(prefix="x")).open()
        await link.close()


async def test_a_cluster_with_another_number_of_shards_is_refused():
    prefix = next_prefix()
    link = Link(LinkOptions((shared_server().url,)))
    await link.open()
    log = JetStreamLog(link, LogOptions(prefix=prefix, shards=8))
    await log.open()
    await log.close()
    with pytest.raises(LogFailure, match="the cluster has 8 shards, not 16"):
        await JetStreamLog(link, LogOptions(prefix=prefix, shards=16)).open()
    await link.close()


# Asking


@pytest.fixture
async def proxy():
    proxy = await Proxy(shared_server().port).start()
    yield proxy
    await proxy.stop()


@pytest.fixture
async def link(proxy):
    link = Link(LinkOptions((proxy.url,), request_seconds=0.5, silence_seconds=0.3))
    await link.open()
    yield link
    await link.close()


async def test_a_question_that_nobody_takes_is_unserved(link):
    with pytest.raises(Unserved):
        await link.request("nobody.listens.here", b"?")


async def test_a_refusal_tells_what_the_server_says(link):
    with pytest.raises(Refused) as caught:
        await link.api("STREAM.INFO.nowhere", {})
    assert (caught.value.status, caught.value.code) == (404, 10059)


async def test_a_message_that_is_too_large_is_refused_before_it_is_sent(link):
    with pytest.raises(Refused, match="more than NATS takes"):
        await link.request("x", bytes(link.payload_max))
    assert link.is_connected


async def test_an_answer_that_does_not_come_is_given_up(link, proxy):
    proxy.stall_answers()
    with pytest.raises(Unanswered):
        await link.api("INFO", {})


async def test_whoever_waits_hears_at_once_that_the_connection_is_lost(link, proxy):
    waiting = asyncio.ensure_future(link.request("$JS.API.INFO", b"", seconds=30))
    proxy.stall_answers()
    await asyncio.sleep(0)
    proxy.cut()
    with pytest.raises(Unanswered):
        await asyncio.wait_for(waiting, 5)
    with pytest.raises(Unserved):
        await link.request("$JS.API.INFO", b"")


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["cut", "stall", "stall_answers"])
async def test_the_connection_comes_back(link, proxy, fault):
    heard = []
    link.on_connected.append(lambda: heard.append(link.is_connected))
    for turn in range(1, 3):
        getattr(proxy, fault)()
        await until(lambda: not link.is_connected)
        proxy.mend()
        await until(lambda n=turn: len(heard) == n)
        await link.api("INFO", {})
    assert heard == [True, True]


@pytest.mark.slow
async def test_a_server_that_throws_the_node_out_gets_it_back(tmp_path):
    """Its users change and change back: the client's library would give up for good."""
    with nats_server(tmp_path / "n", extra="authorization { token: one }") as server:
        options = LinkOptions((server.url,), token="one", silence_seconds=0.3)
        link = Link(replace(options, open_seconds=2.0))
        await link.open()
        server.kill()
        server.extra = "authorization { token: another }"
        server.start()
        await asyncio.sleep(1.5)
        assert not link.is_connected
        server.kill()
        server.extra = "authorization { token: one }"
        server.start()
        await until(lambda: link.is_connected)
        await link.api("INFO", {})
        await link.close()


@pytest.mark.slow
async def test_a_server_that_stands_still_is_left_for_another(tmp_path):
    with nats_server(tmp_path / "a") as one, nats_server(tmp_path / "b") as two:
        options = LinkOptions((one.url, two.url), silence_seconds=0.3, request_seconds=0.5)
        link = Link(options)
        await link.open()
        first = one if link.client.connected_url.port == one.port else two
        other = two if first is one else one
        first.pause()
        await until(lambda: link.is_connected and link.client.connected_url.port == other.port)
        await link.api("INFO", {})
        first.go_on()
        await link.close()
