"""Every parser that the network reaches, as a function of bytes.

A target ends in a result or in the error that the parser declares; anything else that comes out of
it is a bug. Some hold two ways to the same answer against each other. Targets keep nothing between
two calls.
"""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import qel
from hotpath.amqp.conditions import Refused
from hotpath.amqp.ends import IN_C, Ends
from hotpath.amqp.frames import BATCH_MARK, BatchMarks, FirstFrame, read_open
from hotpath.amqp.management_fields import read_items, read_number, read_numbers, read_tokens
from hotpath.amqp.outcomes import read_disposition
from hotpath.amqp.requests import encode_reply, read_request
from hotpath.amqp.sasl import Prelude, Stage
from hotpath.amqp.workarounds import room_for_fields
from hotpath.auth.jwt import TokenRules, TokenVerifier
from hotpath.auth.keys import VerificationKey
from hotpath.auth.keysets import FixedKeys
from hotpath.auth.sas import KeyRing, read_sas
from hotpath.model.errors import HotpathError, Invalid, Unauthorized
from hotpath.model.names import Address, Topic, resource_segments, split_path
from hotpath.rest.bodies import decode as decode_body
from hotpath.rest.bodies import elements, parse_whole, skip_blank
from hotpath.rest.shapes import SHAPES
from hotpath.rest.subscriptions import read_new_subscription
from hotpath.wire.batching import looks_batched, split_envelope
from hotpath.wire.body import parse_json
from hotpath.wire.deadletter import with_application_properties
from hotpath.wire.identity import with_message_id
from hotpath.wire.jsonbody import body_bytes, split_array
from hotpath.wire.message import (
    BrokerAnnotations,
    DeliveryPrefix,
    due_ms,
    expires_ms,
    is_plain,
    may_expire,
    normalise,
    stored_parts,
    without_schedule,
)
from hotpath.wire.properties import Puller
from hotpath.wire.sections import walk
from hotpath.wire.types import WireError, decode, decode_exact, encode, skip
from hotpath.wire.view import describe
from tests.fuzz import identities

Target = Callable[[bytes], object]
NOW_MS = identities.RECORDED_S * 1000
_PATHS = [("objectId",), ("value", "deep"), ("quality",), ("timestamp",), ("é",), ("p" * 300,)]
_PULLER = Puller(_PATHS)
_PREFIXES = (
    DeliveryPrefix(enqueued_ms=5),
    DeliveryPrefix(
        enqueued_ms=5, locked_until_ms=6, delivery_count=3,
        extra=BrokerAnnotations(message_state=1, scheduled_ms=7),
    ),
)  # fmt: skip


def tried(call: Callable[..., object], *given: object, refusal: type[Exception] = WireError) -> Any:
    """A result, or the class of the refusal; any other exception passes through."""
    try:
        return call(*given)
    except refusal:
        return refusal


def agree(one: object, other: object, what: str) -> None:
    """Raises AssertionError when two ways give two answers; NaN is the same as NaN."""
    assert repr(one) == repr(other), f"{what}: {one!r:.500} and {other!r:.500}"


# AMQP


def values(given: bytes) -> None:
    """The type decoder: what it decodes it encodes to the same again."""
    found = tried(decode, given)
    end = tried(skip, given)
    if found is WireError:
        tried(decode_exact, given)
        return
    value, stop = found
    # Skipping refuses a descriptor that has a descriptor, which nothing here has a use for.
    assert end in (stop, WireError), "skip and decode end at different places"
    again = tried(encode, value)
    if again is not WireError:
        agree(decode_exact(again), value, "decoded, encoded, decoded")


def messages(given: bytes) -> None:
    """Sections of a message, from publishing to delivery."""
    stored = tried(normalise, given)
    for raw in {given, stored if isinstance(stored, bytes) else given}:
        due_ms(raw)
        expires_ms(raw, 5)
        is_plain(raw)
        may_expire(raw)
        body_bytes(raw)
        looks_batched(raw)
        for call in (stored_parts, without_schedule, split_array, split_envelope, describe, walk):
            tried(call, raw)
        tried(with_application_properties, raw, {"a": 1})
        tried(with_message_id, raw, "7")
        for prefix in _PREFIXES:
            tried(prefix.wire, 5, raw)
    if isinstance(stored, bytes):
        assert normalise(stored) == stored, "normalising twice changes something"
        for prefix in _PREFIXES:
            normalise(prefix.wire(5, stored))


def properties(given: bytes) -> None:
    """Pulling properties: the short way gives what the careful way gives; nothing raises."""
    _PULLER.pull(given)
    stored = tried(normalise, given)
    if not isinstance(stored, bytes):
        return
    careful, end = _PULLER._search(stored)
    if len(careful) < len(_PULLER.names):
        _PULLER._pull_body(stored, end, careful)
    pulled = _PULLER.pull(stored)
    agree(sorted(pulled.items()), sorted(careful.items()), "properties")
    for text in ("quality > 3", "value.deep = 'x' OR objectId IN ['a', 'b']", "timestamp < '2026'"):
        _filter(text).truth(pulled)


@cache
def _filter(text: str) -> qel.Filter:
    return qel.compile_filter(text.replace("'2026'", "'2026-01-01'"), "variables")


def sasl(given: bytes) -> None:
    """The prelude, in one piece and byte by byte: the same end, the same answer."""
    whole, bitwise = Prelude(external=False), Prelude(external=False)
    _play(whole, [given])
    _play(bitwise, [given[at : at + 1] for at in range(len(given))])
    if whole.stage is not Stage.REFUSED:
        assert whole.rest == bitwise.rest, "what is left for the engine depends on the pieces"
    agree((whole.stage, whole.output), (bitwise.stage, bitwise.output), "prelude")


def _play(prelude: Prelude, pieces: list[bytes]) -> None:
    for piece in pieces:
        if prelude.stage is Stage.DONE:
            prelude.rest += piece
            continue
        prelude.receive(piece)
        if prelude.stage is Stage.CHECKING:
            credential, prelude.credential = prelude.credential, None
            assert credential is not None
            prelude.resolve(accepted=len(credential.password) % 2 == 0)


def frames(given: bytes) -> None:
    """What is looked at before the engine has it: the open, marks of batches; cut anywhere."""
    middle = len(given) // 2
    marks = BatchMarks()
    marks.see(given[:middle], middle)
    marks.see(given[middle:], len(given) - middle)
    assert not marks.tags or BATCH_MARK in given
    for cut in (0, middle):
        first = FirstFrame(room_for_fields, bytes_max=65_536)
        if tried(first, given[:cut], refusal=Refused) is None:
            tried(first, given[cut:], refusal=Refused)
    read_open(given)


_ENDS = Ends(0, 0) if IN_C else Ends(None, None)


def dispositions(given: bytes) -> None:
    """What a receiver tells: what the link ends take as usual, the codec reads as accepted."""
    frame = (len(given) + 11).to_bytes(4, "big") + b"\x02\x00\x00\x00\x00\x53\x15" + given
    told = tried(read_disposition, frame)
    if _ENDS.follow(frame, 0, len(frame), []) == len(frame):
        assert told is None or told.outcome.state == 0x24, f"{told} was taken for accepted"
    for cut in range(1, min(len(frame), 40)):
        _ENDS.follow(frame, 0, cut, [])


def requests(given: bytes) -> None:
    """Bodies of `$cbs` and `$management`: read, its fields looked at, answered."""
    request = tried(read_request, given)
    if request is WireError:
        return
    encode_reply(request, {"statusCode": 200}, None)
    if not isinstance(request.body, dict):
        return
    body = {str(key): value for key, value in request.body.items()}
    for read in (read_number, read_numbers, read_items):
        for name in body:
            tried(read, body, name, refusal=HotpathError)
    tried(read_tokens, body, refusal=HotpathError)


def addresses(given: bytes) -> None:
    """Addresses and audiences."""
    text = given.decode("utf-8", "replace")
    assert Address.parse(Address.parse(text).path) is not None
    split_path(text)
    resource_segments(text)


# Tokens


def sas(given: bytes) -> None:
    """Shared access signatures: only what was signed is accepted."""
    text = given.decode("utf-8", "surrogateescape")
    claims = tried(read_sas_here, text, refusal=Unauthorized)
    if claims is not Unauthorized:
        assert claims.key == identities.KEY


def read_sas_here(text: str):
    return read_sas(text, KeyRing([identities.KEY]), now_ms=NOW_MS)


_SIGNER = Ed25519PrivateKey.from_private_bytes(b"the seed of the fuzzing world...")
_RULES = TokenRules()


@cache
def _verifier() -> TokenVerifier:
    key = VerificationKey("EdDSA", _SIGNER.public_key(), None)
    return TokenVerifier(_RULES, [FixedKeys([key])], now_ms=lambda: NOW_MS)


def json_web_token(given: bytes) -> None:
    """A bearer token: the text itself, and claims that a good key has signed."""
    verifier = _verifier()
    verifier._remembered.clear()
    texts = [given.decode("utf-8", "surrogateescape")]
    try:
        claims = json.loads(given)
    except (ValueError, RecursionError):
        claims = None
    if isinstance(claims, dict):
        texts.append(jwt.api_jws.encode(given, _SIGNER, algorithm="EdDSA"))
    for text in texts:
        work = verifier.verify(text)
        try:
            work.send(None)
        except (StopIteration, Unauthorized):
            continue
        raise AssertionError("verification waits for something")


# QEL


def language(given: bytes) -> None:
    """Text of a filter: a tree, whose text gives the same tree; asked, it never raises."""
    text = given.decode("utf-8", "replace")
    tree = tried(qel.parse, text, refusal=qel.QelError)
    if tree is not qel.QelError:
        printed = qel.to_text(tree)
        assert qel.to_text(qel.parse(printed)) == printed
    for topic in ("variables", "platformEvents"):
        found = tried(qel.compile_filter, text, topic, refusal=qel.QelError)
        if found is not qel.QelError:
            _ask(found)


_ASKED: tuple[dict[str, object], ...] = (
    {},
    {"objectId": "a", "quality": 3, "value": {"a": [1, "x", None]}, "timestamp": "2026-01-01"},
    {"objectId": 5, "quality": float("nan"), "value": 2**70, "timestamp": "no", "eventType": []},
)


def _ask(found: qel.Filter) -> None:
    index = qel.FilterIndex()
    index.add("it", found)
    for message in _ASKED:
        truth = found.truth(message)
        assert found.matches(message) == (truth is True)
        assert index.match(message) == ({"it"} if truth is True else set())
        found.explain(message)
    index.remove("it")


# REST


def bodies(given: bytes) -> None:
    """JSON, as objects, arrays and lines: a value that the standard library reads the same."""
    text = tried(decode_body, given, refusal=Invalid)
    if text is Invalid:
        return
    found = tried(parse_whole, text, refusal=Invalid)
    if found is not Invalid:
        agree(json.loads(found[1]), found[0], "JSON")
    start = skip_blank(text, 0)
    if text[start : start + 1] == "[":
        tried(lambda: list(elements(text, start)), refusal=Invalid)
    for line in given.split(b"\n")[:20]:
        _publish(tried(lambda line=line: parse_whole(decode_body(line)), refusal=Invalid))
    parse_json(given) if len(given) < 5_000 else None


def _publish(found) -> None:
    if found is Invalid or not isinstance(found[0], dict):
        return
    value, own = found
    for shape in SHAPES.values():
        if not shape.check(value):
            stored = shape.encode(value, own, "2026-01-01T00:00:00.000Z")
            assert normalise(stored) == stored
    for topic in Topic:
        if topic is not Topic.POINTS:
            tried(lambda t=topic: read_new_subscription(value, t, now_ms=NOW_MS), refusal=Invalid)


TARGETS: dict[str, Target] = {
    "values": values,
    "messages": messages,
    "properties": properties,
    "sasl": sasl,
    "frames": frames,
    "dispositions": dispositions,
    "requests": requests,
    "addresses": addresses,
    "sas": sas,
    "jwt": json_web_token,
    "qel": language,
    "bodies": bodies,
}
