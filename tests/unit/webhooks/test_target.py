"""Places that deliveries must never go to; nothing here sends a packet anywhere."""

import asyncio
import ssl
from ipaddress import ip_address, ip_network

import pytest

from hotpath.webhooks.address import TargetPolicy, TargetRefused, check_address, read_networks
from hotpath.webhooks.target import Dialer, check_url
from tests.support.clock import ManualClock

PUBLIC = TargetPolicy()
DEVELOPMENT = TargetPolicy(allow_http=True, allow_networks=read_networks("127.0.0.0/8, ::1/128"))

PRIVATE_LITERALS = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.254",
    "127.0.0.1",
    "127.1.2.3",
    "127.255.255.255",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "100.100.100.200",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::127.0.0.1]",
    "[::10.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:10.0.0.1]",
    "[::ffff:169.254.169.254]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:192.168.1.1]",
    "[::ffff:0:10.0.0.1]",
    "[::ffff:8.8.8.8]",
    "[64:ff9b::10.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b::8.8.8.8]",
    "[64:ff9b:1::10.0.0.1]",
    "[64:ff9b:1:ffff::1]",
    "[100::1]",
    "[2001::1]",
    "[2001:0:7f00:1::]",
    "[2001:db8::1]",
    "[2001:10::1]",
    "[2001:20::1]",
    "[2002:7f00:1::1]",
    "[2002:a00:1::]",
    "[2002:a9fe:a9fe::]",
    "[2002:808:808::]",
    "[3fff::1]",
    "[5f00::1]",
    "[fc00::1]",
    "[fd00::1]",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
    "[fdff:ffff::1]",
    "[fe80::1]",
    "[febf::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[ff0e::1]",
    "[4000::1]",
    "[8000::1]",
    "[e000::1]",
    "[2620:4f:8000::1]",
    "[1::1]",
]

ODD_HOSTS = [
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f000001",
    "0X7F000001",
    "2130706433",
    "017700000001",
    "127.1",
    "127.0.1",
    "10.1",
    "0",
    "0x0",
    "00",
    "1",
    "127.0.0.01",
    "127.0.0.1.",
    "127.0.0.256",
    "1.2.3.4.5",
    "1.2.3",
    "169.254.43518",
    "0251.0376.0251.0376",
    "0xa9fea9fe",
    "2852039166",
    "example.com.",
    "localhost.",
    "127.0.0.1..",
    ".example.com",
    "example..com",
    ".",
    "..",
    "-example.com",
    "example-.com",
    "exa_mple-.com",
    "ex%61mple.com",
    "127.0.0.1%2eexample.com",
    "%31%32%37.0.0.1",
    "[::1",
    "::1]",
    "[::1]]",
    "[[::1]]",
    "[fe80::1%25eth0]",
    "[::1%lo]",
    "[1.2.3.4]",
    "[]",
    "[::g]",
    "[:::1]",
    "[::ffff:127.0.0.0x1]",
    "[v1.fe80::a]",
    "user@example.com",
    "user:pw@example.com",
    "@example.com",
    "example.com@127.0.0.1",
    "127.0.0.1@example.com",
    ":@example.com",
    "localhost",
    "LOCALHOST",
    "a.localhost",
    "metadata.google.internal",
    "printer.local",
    "host.localdomain",
    "intranet",
    "1.0.0.127.in-addr.arpa",
    "example.com:0",
    "example.com:00443",
    "example.com:65536",
    "example.com:99999999999",
    "example.com:-1",
    "example.com:+443",
    "example.com:4a",
    "example.com:",
    "example.com:443:80",
    "example.com:22",
    "example.com:25",
    "example.com:6379",
    "example.com:11211",
    "example.com:1",
    "0x7f.1",
    "1.0x7f",
    "0x",
]

ODD_URLS = [
    "",
    " ",
    "example.com",
    "//example.com/",
    "/hook",
    "https:",
    "https:/",
    "https://",
    "https:///",
    "https:///hook",
    "https:example.com",
    "https:/example.com",
    "http://example.com/",
    "HTTP://example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "javascript://example.com/",
    "data:text/plain,x",
    "ws://example.com/",
    "wss://example.com/",
    "unix:///var/run/docker.sock",
    "https+unix://example.com/",
    "dict://example.com:443/",
    "https ://example.com/",
    " https://example.com/",
    "https://example.com/ ",
    "https://exam ple.com/",
    "https://example.com/a b",
    "https://example.com\t/",
    "https://example\n.com/",
    "https://example.com/\r\nHost: internal",
    "https://example.com/\x00",
    "https://example.com/\x7f",
    "\thttps://example.com/",
    "https://exa\u00admple.com/",
    "https://１２７.０.０.１/",
    "https://127。0。0。1/",
    "https://①②⑦.⓪.⓪.①/",
    "https://ⓔxample.com/",
    "https://bücher.example/",
    "https://exampleｃom/",
    "https://example.com／hook",
    "https://example.com﹕443/",
    "https://example.com/hook/é",
    "https://localhost\u3002/",
    "https://example.com\\@127.0.0.1/",
    "https:\\\\example.com\\",
    "https://example.com\\.internal/",
    "https://127.0.0.1\\@example.com/",
    "https://example.com/#fragment",
    "https://example.com#@127.0.0.1/",
    "https://example.com/%",
    "https://example.com/%zz",
    "https://example.com/?q=%4",
    "https://" + "a" * 64 + ".com/",
    "https://" + "a." * 130 + "com/",
    "https://example.com/" + "a" * 2048,
    "https://$(id).example.com/",
    "https://exa|mple.com/",
    "https://example.com<x>/",
    "https://[::1].example.com/",
    "https://example.com]/",
]

REFUSED = [
    *(f"https://{host}/hook" for host in PRIVATE_LITERALS),
    *(f"https://{host}/hook" for host in ODD_HOSTS),
    *ODD_URLS,
]

ACCEPTED = {
    "https://test-api.com/test/webhook": ("test-api.com", 443, "/test/webhook"),
    "https://Example.COM": ("example.com", 443, "/"),
    "HTTPS://example.com:8443/a?b=c&d=%2F": ("example.com", 8443, "/a?b=c&d=%2F"),
    "https://example.com?x=1": ("example.com", 443, "/?x=1"),
    "https://xn--bcher-kva.example/": ("xn--bcher-kva.example", 443, "/"),
    "https://8.8.8.8/": ("8.8.8.8", 443, "/"),
    "https://[2606:4700::1111]:8443/x": ("2606:4700::1111", 8443, "/x"),
    "https://a_b.example.com:1024/": ("a_b.example.com", 1024, "/"),
    "https://3com.com/": ("3com.com", 443, "/"),
    "https://1.2.3.4.example.com/": ("1.2.3.4.example.com", 443, "/"),
    "https://example.com/[x]{y}|z": ("example.com", 443, "/[x]{y}|z"),
}


def test_there_are_enough_forms():
    assert len(REFUSED) == len(set(REFUSED)) >= 200


@pytest.mark.parametrize("url", REFUSED, ids=lambda url: ascii(url)[:60])
def test_a_private_or_odd_target_is_refused_at_registration(url):
    with pytest.raises(TargetRefused) as refused:
        check_url(url, PUBLIC)

    assert refused.value.reason


@pytest.mark.parametrize(("url", "read"), ACCEPTED.items(), ids=ACCEPTED)
def test_a_public_target_is_read(url, read):
    target = check_url(url, PUBLIC)

    assert (target.host, target.port, target.path) == read
    assert target.tls


def test_the_host_header_names_the_port_only_where_it_is_unusual():
    assert check_url("https://example.com:443/", PUBLIC).authority == "example.com"
    assert check_url("https://example.com:80/", PUBLIC).authority == "example.com:80"
    assert check_url("https://[2606::1]:8443/", PUBLIC).authority == "[2606::1]:8443"


# The allow-list


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000/", "http://[::1]:22/", "http://localhost/"])
def test_the_allow_list_admits_what_it_names(url):
    assert not check_url(url, DEVELOPMENT).tls


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1/", "https://[fe80::1]/", "https://[::ffff:127.0.0.1]/"]
)
def test_the_allow_list_admits_nothing_else(url):
    with pytest.raises(TargetRefused):
        check_url(url, DEVELOPMENT)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "fd00:ec2::254",
        "100.100.100.200",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "64:ff9b::a9fe:a9fe",
        "::ffff:169.254.169.254",
        "2002:a9fe:a9fe::",
    ],
)
def test_no_allow_list_admits_metadata_services_and_places_where_nothing_listens(address):
    everywhere = TargetPolicy(allow_networks=read_networks("0.0.0.0/0,::/0"))

    with pytest.raises(TargetRefused):
        check_address(ip_address(address), everywhere)


def test_an_admitted_form_still_must_not_carry_a_private_address():
    nat64 = TargetPolicy(allow_networks=(ip_network("64:ff9b::/96"),))

    check_address(ip_address("64:ff9b::8.8.8.8"), nat64)
    with pytest.raises(TargetRefused, match="private"):
        check_address(ip_address("64:ff9b::10.0.0.1"), nat64)


# Connecting


class RecordingConnector:
    """Notes where it was sent instead of connecting."""

    def __init__(self, *failing):
        self.calls = []
        self.failing = failing

    async def connect(self, address, port, *, protocol, tls, server_name):
        self.calls.append((address, port, tls is not None, server_name))
        if address in self.failing:
            raise ConnectionRefusedError(111, "refused")


class FixedResolver:
    """Answers from a list, another one each time."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def resolve(self, host):
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def dialer(resolver, connector, policy=PUBLIC, clock=None):
    return Dialer(
        policy,
        resolver=resolver,
        connector=connector,
        tls=ssl.create_default_context(),
        clock=clock or ManualClock(),
    )


TARGET = check_url("https://hooks.example.com:8443/x", PUBLIC)


@pytest.mark.parametrize(
    "address",
    [*(literal.strip("[]") for literal in PRIVATE_LITERALS), "fe80::1%eth0", "nonsense"],
)
async def test_a_name_that_leads_to_a_private_address_is_not_connected_to(address):
    connector = RecordingConnector()

    with pytest.raises((TargetRefused, OSError)) as refused:
        await dialer(FixedResolver([address]), connector).dial(TARGET, asyncio.Protocol)

    assert connector.calls == []
    assert address not in str(refused.value)


async def test_one_private_address_among_public_ones_spoils_the_name():
    connector = RecordingConnector()

    with pytest.raises(TargetRefused):
        await dialer(FixedResolver(["8.8.8.8", "10.0.0.1"]), connector).dial(
            TARGET, asyncio.Protocol
        )

    assert connector.calls == []


async def test_the_checked_address_is_connected_to_under_the_name():
    connector = RecordingConnector()

    await dialer(FixedResolver(["8.8.8.8"]), connector).dial(TARGET, asyncio.Protocol)

    assert connector.calls == [("8.8.8.8", 8443, True, "hooks.example.com")]


async def test_a_name_is_not_looked_up_between_check_and_connect():
    resolver, connector = FixedResolver(["8.8.8.8"], ["127.0.0.1"]), RecordingConnector()

    await dialer(resolver, connector).dial(TARGET, asyncio.Protocol)

    assert resolver.asked == ["hooks.example.com"]
    assert connector.calls == [("8.8.8.8", 8443, True, "hooks.example.com")]


async def test_a_name_that_is_bound_to_something_private_later_is_refused_then():
    clock, connector = ManualClock(), RecordingConnector()
    resolver = FixedResolver(["8.8.8.8"], ["169.254.169.254"])
    dialing = dialer(resolver, connector, clock=clock)
    await dialing.dial(TARGET, asyncio.Protocol)
    await clock.advance(31_000)

    with pytest.raises(TargetRefused):
        await dialing.dial(TARGET, asyncio.Protocol)

    assert len(connector.calls) == 1


async def test_further_addresses_are_tried_when_one_does_not_answer():
    connector = RecordingConnector("8.8.8.8")

    await dialer(FixedResolver(["8.8.8.8", "9.9.9.9"]), connector).dial(TARGET, asyncio.Protocol)

    assert [call[0] for call in connector.calls] == ["8.8.8.8", "9.9.9.9"]


async def test_the_last_failure_is_told_and_the_name_looked_up_anew():
    resolver = FixedResolver(["8.8.8.8"], ["9.9.9.9"])
    connector = RecordingConnector("8.8.8.8")
    dialing = dialer(resolver, connector)

    with pytest.raises(ConnectionRefusedError):
        await dialing.dial(TARGET, asyncio.Protocol)
    await dialing.dial(TARGET, asyncio.Protocol)

    assert connector.calls[-1][0] == "9.9.9.9"


async def test_a_name_without_addresses_is_a_failure():
    with pytest.raises(OSError, match="no address"):
        await dialer(FixedResolver([]), RecordingConnector()).dial(TARGET, asyncio.Protocol)


async def test_an_address_is_not_looked_up():
    resolver, connector = FixedResolver(["1.1.1.1"]), RecordingConnector()

    await dialer(resolver, connector).dial(check_url("https://8.8.8.8/", PUBLIC), asyncio.Protocol)

    assert resolver.asked == []
    assert connector.calls == [("8.8.8.8", 443, True, "8.8.8.8")]
