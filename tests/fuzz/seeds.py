"""What the mutations of each target begin with: real inputs, and the regressions."""

import base64
import random
from functools import cache
from pathlib import Path

from tests.fuzz import grammar, identities, mutate
from tests.fuzz.attack import load_corpus
from tests.fuzz.frames import split

HERE = Path(__file__).parent
REGRESSIONS = HERE / "regressions"
_MADE = 30


def regressions(target: str) -> list[tuple[str, bytes]]:
    """Inputs that once broke something, by their names."""
    return [(path.stem, path.read_bytes()) for path in sorted((REGRESSIONS / target).glob("*"))]


@cache
def seeds(target: str) -> tuple[bytes, ...]:
    """Well-formed inputs of a target, always the same."""
    found = {
        "values": _messages,
        "messages": _messages,
        "properties": _messages,
        "requests": _messages,
        "sasl": _preludes,
        "frames": lambda: [raw for stream in load_corpus() for raw in split(stream)],
        "dispositions": _dispositions,
        "addresses": lambda: [text.encode() for text in _ADDRESSES],
        "sas": lambda: [text.encode() for text in _sas()],
        "jwt": lambda: [text.encode() for text in _JWT],
        "qel": lambda: [text.encode() for text in _QEL],
        "bodies": lambda: [text.encode() for text in _JSON],
    }[target]()
    return tuple(dict.fromkeys(found))


def _messages() -> list[bytes]:
    rng, known = random.Random(5), grammar.Known(locks=[(1, 1), (2, 7)])
    return [
        *mutate.payloads_of(load_corpus()),
        *(grammar.message(rng) for _ in range(_MADE)),
        *(grammar.request(rng, known) for _ in range(_MADE)),
    ]


def _dispositions() -> list[bytes]:
    """What is behind the descriptor of a disposition."""
    rng = random.Random(5)
    recorded = (raw for stream in load_corpus() for raw in split(stream))
    return [
        *(raw[11:] for raw in recorded if raw[8:11] == b"\x00\x53\x15"),
        *(grammar.disposition(rng, grammar.Known()).encode()[11:] for _ in range(_MADE)),
    ]


def _preludes() -> list[bytes]:
    return [b"".join(split(stream)[:4]) for stream in load_corpus()]


def _sas() -> list[str]:
    good = identities.token(identities.feed(1))
    return [good, identities.token("variables"), good.replace("sig=", "sig=A"), good + "&se=1"]


_ADDRESSES = (
    identities.feed(1), identities.feed(1) + "/$DeadLetterQueue/$management", "variables", "$cbs",
    "amqp://localhost:5671/%76ariables/Subscriptions/x/", "VARIABLES/$Management", "//a//",
)  # fmt: skip
_HEADER = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
_JWT = (
    '{"tenantId": "a", "exp": 1.9e9, "scope": "hotpath.publish hotpath.subscribe:variables"}',
    '{"tenantId": "a", "exp": 1900000000, "nbf": 1, "sub": "s", "permissions": ["hotpath.admin"], '
    '"condition": "value > 5", "partitions": ["p"], "aud": ["x"], "iss": "y"}',
    f"{_HEADER}.e30.", "a.b.c", "eyJhbGciOiJFZERTQSIsImtpZCI6IngifQ.eyJleHAiOjF9.AAAA",
)  # fmt: skip
_QEL = (
    "value > 5 AND NOT (objectId IN ['a', \"b\"] OR timestamp >= '2026-01-01T00:00:00.5+02:00')",
    "a.b HAS 'x' or `odd name`.c = null", "quality != -1.5e3", "(value = true) = false",
    "objectId STARTS_WITH 'it''s' AND objectId ENDS_WITH '\\u00e9\\n'", "NOT NOT NOT value",
    "value.deep.er IN (1, 2, 3) AND model = variable", "((((value = 1))))", "eventType = 'x'",
)  # fmt: skip
_JSON = (
    '{"objectId": "a", "variable": "v", "value": 1.5, "quality": 3}',
    '[{"objectId": "a", "variable": "v", "value": [1, {"a": null}], '
    '"timestamp": "2026-01-01T00:00:00Z"}, {}]',
    '{"subscriptionTTL": 60, "sasTokenTTL": 10.5, "filter": "value > 1", "startFrom": "earliest"}',
    '{"eventType": "x", "eventTime": "2026-01-01", "more": {"deep": ["\\ud83d\\ude00", 1e400]}}',
    '\ufeff {"objectId":"\\u0000","event":"e"}\n{"alarm":"a","objectId":"b"}\n\n[1,2',
    '{"a": 1, "a": 2}', "[[[[[[[[[[]]]]]]]]]]", '"\\ud800"', "-0", "1e999", "NaN", "1" * 400,
)  # fmt: skip
