"""Any text is read as a token of ours or refused; nothing else ever happens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.auth.sas import SCHEME, KeyRing, SigningKey, is_sas, issue, read_sas
from hotpath.model.errors import Unauthorized
from hotpath.model.names import split_path

RING = KeyRing([SigningKey("one", "secret"), SigningKey("two", "other", "acme", 9)])
NAMES = st.sampled_from(["sr", "sig", "se", "skn", "SR", "", "x"])
VALUES = st.one_of(st.text(max_size=30), st.sampled_from(["1893456000", "one", "%", "%00", "=="]))
PAIRS = st.lists(st.tuples(NAMES, VALUES), max_size=6)


@given(st.one_of(st.text(), st.text().map(SCHEME.__add__)))
def test_any_text_is_refused(text: str) -> None:
    is_sas(text)
    with pytest.raises(Unauthorized):
        read_sas(text, RING, now_ms=0)


@given(PAIRS)
def test_any_fields_are_refused(pairs: list[tuple[str, str]]) -> None:
    test_any_text_is_refused.hypothesis.inner_test(
        SCHEME + "&".join(f"{name}={value}" for name, value in pairs)
    )


@given(
    st.text(max_size=200).filter(lambda text: text.isprintable()),
    st.integers(min_value=1, max_value=10**11),
)
def test_issued_token_reads_back(resource: str, end_s: int) -> None:
    uri = "sb://host/" + resource.replace("+", "")

    claims = read_sas(issue(RING.current, uri, expires_s=end_s), RING, now_ms=end_s * 1000 - 1)

    assert claims.segments == tuple(split_path(uri))
    assert claims.until_ms == end_s * 1000


@given(st.data())
def test_token_with_one_character_changed_is_refused(data: st.DataObject) -> None:
    token = issue(RING.current, "sb://host/variables/Subscriptions/abc", expires_s=1_893_456_000)
    signed_part = token.index("&skn=")
    at = data.draw(st.integers(len(SCHEME), signed_part - 1))
    new = data.draw(
        st.characters(min_codepoint=33, max_codepoint=126).filter(lambda c: c != token[at])
    )
    changed = token[:at] + new + token[at + 1 :]

    try:
        claims = read_sas(changed, RING, now_ms=0)
    except Unauthorized:
        return
    # The one harmless change: another case of the hexadecimal digits of the signature.
    assert claims.until_ms == 1_893_456_000_000
    assert changed.lower() == token.lower()
    assert token.index("&sig=") < at < token.index("&se=")
