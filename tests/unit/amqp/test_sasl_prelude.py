"""What comes before AMQP, byte by byte."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotpath.amqp.sasl import FRAME_BYTES_MAX, REST_BYTES_MAX, Mechanism, Prelude, Stage
from hotpath.wire.types import Symbol
from tests.support.wire import (
    AMQP_HEADER,
    SASL_HEADER,
    frame,
    performative,
    plain,
    read_performative,
    sasl_init,
    split_frames,
)


def prelude(*, external: bool = False) -> Prelude:
    return Prelude(external=external)


def offered(state: Prelude) -> list[str]:
    value = read_performative(split_frames(state.output)[1])
    assert value.descriptor == 0x40
    return list(value.value[0].items)


def outcome(state: Prelude) -> int | None:
    value = read_performative(split_frames(state.output)[-1])
    return value.value[0] if value is not None and value.descriptor == 0x44 else None


@pytest.mark.parametrize(
    ("external", "expected"),
    [
        (False, ["MSSBCBS", "PLAIN", "ANONYMOUS"]),
        (True, ["MSSBCBS", "PLAIN", "ANONYMOUS", "EXTERNAL"]),
    ],
    ids=["without certificate", "with certificate"],
)
def test_mechanisms_are_offered_in_this_order(external, expected):
    state = prelude(external=external)

    state.receive(SASL_HEADER)

    assert state.output.startswith(SASL_HEADER)
    assert offered(state) == expected
    assert state.stage is Stage.INIT


@pytest.mark.parametrize("mechanism", [b"MSSBCBS", b"ANONYMOUS"])
@pytest.mark.parametrize("response", [None, b"", b"\x00keyname", b"anonymous"])
def test_mechanisms_without_a_secret_ignore_their_response(mechanism, response):
    state = prelude()

    state.receive(SASL_HEADER + sasl_init(mechanism, response))

    assert state.stage is Stage.CHECKING
    assert state.credential.mechanism is Mechanism(mechanism.decode())


def test_plain_gives_user_and_password():
    state = prelude()

    state.receive(SASL_HEADER + plain("user", "päss=wörd"))

    assert (state.credential.user, state.credential.password) == ("user", "päss=wörd")
    assert "päss" not in repr(state.credential)


def test_an_accepted_credential_leads_to_the_amqp_header():
    state = prelude()
    state.receive(SASL_HEADER + plain("u", "p"))

    state.resolve(accepted=True)
    assert outcome(state) == 0
    assert state.stage is Stage.AMQP

    state.receive(AMQP_HEADER + b"more")
    assert state.stage is Stage.DONE
    assert state.rest == AMQP_HEADER + b"more"


def test_a_refused_credential_gets_outcome_one():
    state = prelude()
    state.receive(SASL_HEADER + plain("u", "p"))

    state.resolve(accepted=False)

    assert outcome(state) == 1
    assert state.stage is Stage.REFUSED


def test_what_comes_before_the_outcome_is_kept():
    state = prelude()
    state.receive(SASL_HEADER + plain("u", "p") + AMQP_HEADER + b"open")

    state.resolve(accepted=True)

    assert state.stage is Stage.DONE
    assert state.rest == AMQP_HEADER + b"open"


def test_amqp_without_sasl_is_taken():
    state = prelude()

    state.receive(AMQP_HEADER + b"open")

    assert state.stage is Stage.DONE
    assert state.rest == AMQP_HEADER + b"open"
    assert state.output == b""


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"AMQP\x02\x01\x00\x00",
        b"AMQP\x00\x00\x09\x01",
        b"\x16\x03\x01\x00\xa5",
        b"\x00" * 8,
    ],
    ids=["http", "amqp tls", "amqp 0.9.1", "tls", "zeros"],
)
def test_other_protocols_are_told_what_is_spoken_here(data):
    state = prelude()

    state.receive(data)

    assert state.output == SASL_HEADER
    assert state.stage is Stage.REFUSED


def test_after_sasl_only_the_amqp_header_will_do():
    state = prelude()
    state.receive(SASL_HEADER + sasl_init(b"ANONYMOUS"))
    state.resolve(accepted=True)

    state.receive(SASL_HEADER)

    assert state.stage is Stage.REFUSED


@pytest.mark.parametrize(
    "init",
    [
        sasl_init(b"EXTERNAL"),
        sasl_init(b"GSSAPI"),
        sasl_init(b"PLAIN"),
        sasl_init(b"PLAIN", b"no zeros"),
        sasl_init(b"PLAIN", b"\0user"),
        sasl_init(b"PLAIN", b"\0u\0p\0more"),
        sasl_init(b"PLAIN", b"\0u\0\xff\xfe"),
        frame(performative(0x44, 0), kind=1),
        frame(performative(0x41), kind=1),
        frame(performative(0x41, Symbol("PLAIN"), "text"), kind=1),
        frame(b"\xff\xff", kind=1),
        frame(b"", kind=1),
        frame(b"\x00\x53\x41\x40", kind=1),
        frame(performative(0x41, Symbol("ANONYMOUS")) + b"x", kind=1),
    ],
    ids=[
        "external without certificate", "unknown", "no response", "no zeros", "two parts",
        "four parts", "no utf-8", "other performative", "no mechanism", "response type", "noise",
        "empty", "null", "bytes left over",
    ],
)  # fmt: skip
def test_a_bad_init_gets_outcome_one(init):
    state = prelude()

    state.receive(SASL_HEADER + init)

    assert outcome(state) == 1
    assert state.stage is Stage.REFUSED
    assert state.reason


@pytest.mark.parametrize(
    "head",
    [
        b"\x00\x00\x00\x07\x02\x01\x00\x00",
        (FRAME_BYTES_MAX + 1).to_bytes(4, "big") + b"\x02\x01\x00\x00",
        b"\x00\x00\x00\x10\x01\x01\x00\x00",
        b"\x00\x00\x00\x10\x05\x01\x00\x00",
        b"\x00\x00\x00\x10\x02\x00\x00\x00",
        b"\xff\xff\xff\xff\xff\x01\x00\x00",
    ],
    ids=["too short", "too long", "offset too small", "offset too large", "type", "huge"],
)
def test_malformed_frames_end_it(head):
    state = prelude()

    state.receive(SASL_HEADER + head)

    assert state.stage is Stage.REFUSED


def test_a_client_cannot_pile_up_bytes_while_it_is_checked():
    state = prelude()
    state.receive(SASL_HEADER + plain("u", "p"))

    for _ in range(REST_BYTES_MAX // 1000 + 2):
        state.receive(b"x" * 1000)

    assert state.stage is Stage.REFUSED
    assert state.rest == b""


@given(st.binary(max_size=200), st.integers(1, 50))
@settings(max_examples=200, deadline=None)
def test_any_bytes_lead_to_a_stage_and_nothing_else(data, step):
    for start in (b"", SASL_HEADER, SASL_HEADER + sasl_init(b"ANONYMOUS")):
        state = prelude(external=True)
        whole = start + data
        for at in range(0, len(whole), step):
            state.receive(whole[at : at + step])
            if state.stage is Stage.CHECKING:
                state.resolve(accepted=True)
        assert state.stage in Stage
