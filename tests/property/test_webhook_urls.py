"""Any text is a target or is refused, and what is accepted is read alike by another parser."""

import string
from ipaddress import ip_address
from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st

from hotpath.webhooks.address import TargetPolicy, TargetRefused, refusal
from hotpath.webhooks.target import check_url

POLICY = TargetPolicy()

PIECES = st.sampled_from(
    [
        "https://",
        "http://",
        "//",
        "/",
        "\\",
        "@",
        ":",
        "#",
        "?",
        "%",
        "%2e",
        ".",
        "..",
        "[",
        "]",
        "::1",
        "::ffff:",
        "127.0.0.1",
        "127.1",
        "0x7f",
        "0177",
        "2130706433",
        "localhost",
        "xn--",
        "example.com",
        "443",
        "0",
        "65536",
        "user",
        "10.",
        "169.254.169.254",
        "8.8.8.8",
        "2606::1",
        " ",
        "\t",
        "\r\n",
        "８",
        "。",
    ]
)
TEXTS = st.lists(PIECES | st.text(max_size=4), max_size=10).map("".join)
URLS = st.builds("https://{}".format, TEXTS) | TEXTS


@given(URLS)
def test_any_text_is_a_target_or_is_refused(text):
    try:
        target = check_url(text, POLICY)
    except TargetRefused:
        return

    other = urlsplit(text)
    assert other.hostname == target.host or ip_address(other.hostname) == target.address
    assert (other.port or 443) == target.port
    assert other.username is None
    assert target.tls
    assert set(target.host) <= set(string.ascii_lowercase + string.digits + ".-_:")
    assert target.path.startswith("/")
    assert target.path.isascii()
    assert not set(target.path) & set(" \t\r\n#")


@given(st.ip_addresses())
def test_an_address_that_is_not_refused_is_public_to_others_too(address):
    if refusal(address) is None:
        assert address.is_global
        assert not address.is_multicast
