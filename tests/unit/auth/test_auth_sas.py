"""Shared access signatures: the published vectors, what a token says, and what is refused."""

import base64
import hashlib
import hmac
from urllib.parse import quote

import pytest

from hotpath.auth.sas import KeyRing, SigningKey, is_sas, issue, read_sas
from hotpath.model.errors import Unauthorized

END_S = 1_893_456_000
BEFORE_MS = END_S * 1000 - 1
KEY = SigningKey("listen", "c2VjcmV0LWtleS1mb3ItdGVzdHM=")
FEED = "sb://ns.example.com/events/Subscriptions/sub1"
TOKEN = (
    "SharedAccessSignature sr=sb%3A%2F%2Fns.example.com%2Fevents%2FSubscriptions%2Fsub1"
    "&sig=HxQRe%2Bblc8LnTwl8vkZgErxPq52g9%2FTiJxVMpZSvhvI%3D&se=1893456000&skn=listen"
)


def signed(resource: str, *, key: SigningKey = KEY, end: str = str(END_S), skn: str | None = None):
    """A token over raw resource text, made without the code under test."""
    digest = hmac.new(key.secret.encode(), f"{resource}\n{end}".encode(), hashlib.sha256).digest()
    signature = quote(base64.b64encode(digest).decode(), safe="")
    return f"SharedAccessSignature sr={resource}&sig={signature}&se={end}&skn={skn or key.name}"


def test_issued_token_is_the_published_vector() -> None:
    assert issue(KEY, FEED, expires_s=END_S) == TOKEN


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(TOKEN, id="python-and-javascript"),
        pytest.param(
            "SharedAccessSignature sr=sb%3A%2F%2FNS.example.com%3A5671%2FMy+Topic%2FSubscriptions"
            "%2Fs%2B1%2F&sig=z2dDSyPzrzseZWFSujwt60hJ4jIKWG3tD6ADf8fTQlo%3D&se=1893456000&skn=root",
            id="python-plus-for-blank",
        ),
        pytest.param(
            "SharedAccessSignature sr=sb%3A%2F%2FNS.example.com%3A5671%2FMy%20Topic%2FSubscriptions"
            "%2Fs%2B1%2F&sig=eSTrgXmOWUDeezUbqjgV8MPuegjtbVIHihTeVa4iKYc%3D&se=1893456000&skn=root",
            id="javascript-percent-20-for-blank",
        ),
    ],
)
def test_signatures_of_the_client_libraries_verify(token: str) -> None:
    ring = KeyRing([KEY, SigningKey("root", "k/ey+=")])

    claims = read_sas(token, ring, now_ms=BEFORE_MS)

    assert claims.until_ms == END_S * 1000


def test_blank_and_plus_of_a_resource_are_told_apart() -> None:
    ring = KeyRing([SigningKey("root", "k/ey+=")])
    token = signed("sb%3A%2F%2Fns%2FMy+Topic%2FSubscriptions%2Fs%2B1%2F", key=ring.current)

    claims = read_sas(token, ring, now_ms=BEFORE_MS)

    assert claims.segments == ("my topic", "subscriptions", "s+1")


@pytest.mark.parametrize(
    ("resource", "segments"),
    [
        pytest.param("sb%3a%2f%2fns%2fevents", ("events",), id="lower-case-hex"),
        pytest.param("amqps%3A%2F%2Fh%3A5671%2FEvents%2F", ("events",), id="port-case-slash"),
        pytest.param(
            "events%2FSubscriptions%2FA", ("events", "subscriptions", "a"), id="no-scheme"
        ),
        pytest.param("sb%3A%2F%2Fns", (), id="namespace"),
        pytest.param("sb%3A%2F%2Fns%2Fa%252Fb", ("a%2fb",), id="decoded-once"),
    ],
)
def test_resource_becomes_lower_case_segments(resource: str, segments: tuple[str, ...]) -> None:
    claims = read_sas(signed(resource), KeyRing([KEY]), now_ms=BEFORE_MS)

    assert claims.segments == segments
    assert claims.key is KEY


@pytest.mark.parametrize("skn", ["li%73ten", "li%2573ten"], ids=["once", "twice"])
def test_key_name_may_be_encoded_once_or_twice(skn: str) -> None:
    claims = read_sas(signed("x", skn=skn), KeyRing([KEY]), now_ms=BEFORE_MS)

    assert claims.key is KEY


def test_token_ends_at_its_second_without_leeway() -> None:
    ring = KeyRing([KEY])
    assert read_sas(TOKEN, ring, now_ms=END_S * 1000 - 1)

    with pytest.raises(Unauthorized, match="expired"):
        read_sas(TOKEN, ring, now_ms=END_S * 1000)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(TOKEN.replace("sub1", "sub2"), id="other-resource"),
        pytest.param(TOKEN.replace("se=1893456000", "se=1893456001"), id="later-end"),
        pytest.param(TOKEN.replace("HxQR", "HxQS"), id="other-signature"),
        pytest.param(TOKEN.replace("sig=HxQRe%2B", "sig=%ff%fe"), id="signature-no-text"),
        pytest.param(TOKEN.replace("skn=listen", "skn=nobody"), id="unknown-key"),
        pytest.param(TOKEN.replace("skn=listen", "skn="), id="no-key-name"),
        pytest.param(TOKEN.replace("&skn=listen", ""), id="without-skn"),
        pytest.param(TOKEN.replace("&se=1893456000", ""), id="without-se"),
        pytest.param(TOKEN + "&se=1893456000", id="se-twice"),
        pytest.param(TOKEN + "&extra=1", id="unknown-field"),
        pytest.param(TOKEN.replace("se=1893456000", "se=-1"), id="negative-end"),
        pytest.param(TOKEN.replace("se=1893456000", "se=1.9e9"), id="end-no-integer"),
        pytest.param(TOKEN.replace("se=1893456000", "se=" + "9" * 400), id="endless-end"),
        pytest.param(TOKEN.replace("se=1893456000", "se=\u0661\u0668"), id="foreign-digits"),
        pytest.param(TOKEN.replace("sr=sb", "sr=s b"), id="blank-in-resource"),
        pytest.param(TOKEN.replace("sr=", "SR="), id="upper-case-name"),
        pytest.param("SharedAccessSignature ", id="nothing"),
        pytest.param("SharedAccessSignature &&&&&&", id="separators"),
        pytest.param("sharedaccesssignature" + TOKEN[21:], id="scheme-in-lower-case"),
        pytest.param("", id="empty"),
        pytest.param(TOKEN + "a" * 10_000, id="too-long"),
        pytest.param(TOKEN.replace("sub1", "\udc80"), id="lone-surrogate"),
    ],
)
def test_anything_else_is_unauthorized(token: str) -> None:
    with pytest.raises(Unauthorized):
        read_sas(token, KeyRing([KEY]), now_ms=BEFORE_MS)


def test_unknown_key_and_wrong_signature_read_the_same() -> None:
    ring = KeyRing([KEY])
    with pytest.raises(Unauthorized) as unknown:
        read_sas(TOKEN.replace("skn=listen", "skn=nobody"), ring, now_ms=BEFORE_MS)
    with pytest.raises(Unauthorized) as wrong:
        read_sas(TOKEN.replace("HxQR", "HxQS"), ring, now_ms=BEFORE_MS)

    assert unknown.value.detail == wrong.value.detail


def test_expiry_is_told_only_to_who_holds_a_signed_token() -> None:
    with pytest.raises(Unauthorized) as error:
        read_sas(TOKEN.replace("HxQR", "HxQS"), KeyRing([KEY]), now_ms=END_S * 1000)

    assert "expired" not in error.value.detail


def test_empty_ring_accepts_nothing_and_signs_nothing() -> None:
    ring = KeyRing([])

    with pytest.raises(Unauthorized):
        read_sas(TOKEN, ring, now_ms=BEFORE_MS)
    with pytest.raises(LookupError):
        _ = ring.current


def test_newest_key_of_the_service_signs_and_older_ones_still_count() -> None:
    old, new = SigningKey("old", "a", None, 1), SigningKey("new", "b", None, 2)
    tenants = SigningKey("theirs", "c", "acme", 3)
    ring = KeyRing([new, old, tenants])

    assert ring.current is new
    assert read_sas(issue(old, FEED, expires_s=END_S), ring, now_ms=BEFORE_MS).key is old


def test_key_taken_out_of_the_ring_counts_no_more() -> None:
    ring = KeyRing([KEY])
    ring.replace([SigningKey("other", "x")])

    with pytest.raises(Unauthorized):
        read_sas(TOKEN, ring, now_ms=BEFORE_MS)


def test_ring_refuses_two_keys_of_one_name_and_stays_as_it_was() -> None:
    ring = KeyRing([KEY])

    with pytest.raises(ValueError, match="two keys"):
        ring.replace([SigningKey("a", "x"), SigningKey("a", "y")])

    assert ring.get("listen") is KEY


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "x" * 129], ids=repr)
def test_key_names_are_those_no_encoder_changes(name: str) -> None:
    with pytest.raises(ValueError, match="key name"):
        SigningKey(name, "secret")


def test_secret_never_shows() -> None:
    assert KEY.secret not in repr(KEY)


@pytest.mark.parametrize(
    ("text", "expected"), [(TOKEN, True), ("eyJ.a.b", False), ("", False)], ids=["sas", "jwt", "no"]
)
def test_shared_access_signatures_are_told_by_their_beginning(text: str, expected: bool) -> None:
    assert is_sas(text) is expected
