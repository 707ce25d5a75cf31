"""JSON messages: making them, and splitting arrays."""

import json
from uuid import UUID

import pytest

from hotpath.wire import jsonbody
from hotpath.wire.jsonbody import body_bytes, encode_json, split_array
from hotpath.wire.message import normalise, stored_parts
from hotpath.wire.types import Timestamp, ULong, WireError
from tests.unit.wire.wire_messages import FIVE, annotated, published, received


def array(text: str, **fields: object) -> bytes:
    return normalise(published(text.encode(), **fields))


def bodies(messages: list[bytes] | None) -> list[bytes]:
    assert messages is not None
    return [body_bytes(message) or b"" for message in messages]


def test_json_message_is_what_a_client_expects():
    stored = encode_json(b'{"a": 1}', {"objectId": "o", "quality": 1, "t": Timestamp(5)})

    message = received(stored)

    assert normalise(stored) is stored
    assert message.content_type == "application/json"
    assert message.properties == {"objectId": "o", "quality": 1, "t": 5}
    assert bytes(message.body) == b'{"a": 1}'
    assert message.inferred is True
    assert message.id is None


@pytest.mark.parametrize("message_id", ["m", ULong(5), UUID(int=7)], ids=["text", "ulong", "uuid"])
def test_json_message_may_have_an_id_and_another_type(message_id):
    stored = encode_json(b"{}", {}, message_id=message_id, content_type="text/json")

    message = received(stored)

    assert message.id == message_id
    assert message.content_type == "text/json"
    assert message.properties is None


@pytest.mark.parametrize("size", [0, 255, 256, 70_000])
def test_json_body_may_have_any_size(size):
    text = b'"' + b"x" * size + b'"'

    assert body_bytes(encode_json(text, {"a": "x" * size})) == text


def test_value_without_encoding_is_refused():
    with pytest.raises(WireError):
        encode_json(b"{}", {"a": object()})


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (published(b"ab"), b"ab"),
        (published("é"), "é".encode()),
        (published("x" * 300), b"x" * 300),
        (bytes.fromhex("005377a00161"), b"a"),
        (bytes.fromhex("005375a00161005375a00162005378c10100"), b"ab"),
        (published(["a"]), None),
        (published(5), None),
        (published(None), None),
        (bytes.fromhex("00537645"), None),
        (annotated({"mine": 1}, b"ab"), b"ab"),
        (published(b"ab", ttl=5, properties=FIVE), b"ab"),
    ],
)
def test_body_bytes(raw, expected):
    assert body_bytes(normalise(raw)) == expected


@pytest.mark.parametrize("text", ["", "005375", "005375a0ff", "005370c0ff", "005374c1ff"])
def test_damaged_message_has_no_body_bytes_and_no_elements(text):
    assert body_bytes(bytes.fromhex(text)) is None
    assert split_array(bytes.fromhex(text)) is None
    assert split_array(bytes.fromhex(text) + b"[") is None


@pytest.mark.parametrize(
    "raw",
    [
        published(b'{"a": [1, 2]}', properties=FIVE), published(b""), published(b"text [1]"),
        published(b"[INFO] started"), published(b"[1, 2"), published(b"[{}] x"), published(b"[{},]"),
        published(b"[,]"), published(b"["), published(b"[{} {}]"), published(b'[{"a": \xff}]'),
        published(b"[" * 100_000), published(b"[" + b'{"a":' * 5000), published(["[{}]"]), published(None),
        published(5), published({"a": "[{}]"}), published('["unended'), bytes.fromhex("00537640")[:3] + b"\x45",
        published(b"[{'a': 1}]"), published(b"[01]"), published(b"[tru]"),
    ],
)  # fmt: skip
def test_body_that_is_no_json_array_is_one_message(raw):
    assert split_array(normalise(raw)) is None


@pytest.mark.parametrize("text", ["[]", " [ ] ", "\r\n\t[\n]\n", "\ufeff[]", " " * 200 + "[]"])
def test_empty_array_makes_no_message(text):
    assert split_array(array(text)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[{"a": 1}]', ['{"a": 1}']),
        ('[{"a":1},{"b":2}]', ['{"a":1}', '{"b":2}']),
        (' [ {"a" : 1 } ,\n{} ] ', ['{"a" : 1 }', "{}"]),
        ('\ufeff[{"a": "é"}]', ['{"a": "é"}']),
        ('[{"n": 1.10}, {"n": 1e2}, {"n": 100000000000000000000000.5}]',
         ['{"n": 1.10}', '{"n": 1e2}', '{"n": 100000000000000000000000.5}']),
        ('[{"n": ' + "9" * 5000 + "}]", ['{"n": ' + "9" * 5000 + "}"]),
        ('[{"s": "],{}[\\"}"}, {"v": [[], {"x": []}]}]', ['{"s": "],{}[\\"}"}', '{"v": [[], {"x": []}]}']),
        (" " * 100 + '[{"a": 1}]', ['{"a": 1}']),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_each_element_is_a_message_with_its_own_text(text, expected):
    messages = split_array(array(text))

    assert bodies(messages) == [element.encode() for element in expected]


@pytest.mark.parametrize("body", ['[{"a": 1}, {"a": 2}]', b'[{"a": 1}, {"a": 2}]'])
def test_elements_keep_all_that_is_in_front_of_the_body(body):
    raw = annotated({"mine": 1}, body, properties=FIVE, ttl=60.0, subject="s")
    stored = normalise(raw)

    messages = split_array(stored)

    assert messages is not None
    assert len(messages) == 2
    for number, message in enumerate(messages, 1):
        assert stored_parts(message)[:3] == stored_parts(stored)[:3]
        client = received(message)
        assert client.properties == FIVE
        assert client.subject == "s"
        assert json.loads(bytes(client.body)) == {"a": number}
        assert normalise(message) == message


def test_array_in_several_data_sections_is_split_and_its_footer_left_out():
    raw = bytes.fromhex("005375a0025b7b" + "005375a0027d5d" + "005378c10100")

    assert split_array(normalise(raw)) == [bytes.fromhex("005375a0027b7d")]


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("[1]", "element 0 of the array is no object"),
        ("[{}, [], 5]", "element 1 of the array is no object"),
        ("[null]", "element 0"),
        ('[{}, "a"]', "element 1"),
    ],
)
def test_element_that_is_no_object_is_refused(text, detail):
    with pytest.raises(WireError, match=detail):
        split_array(array(text))


def test_limit_of_elements_is_kept():
    assert len(split_array(array("[{},{},{}]"), 3) or []) == 3
    with pytest.raises(WireError, match="more than 2 elements"):
        split_array(array("[{},{},{}]"), 2)
    with pytest.raises(WireError, match="more than 10000 elements"):
        split_array(array("[" + ",".join(["{}"] * 10_001) + "]"))


def test_elements_that_repeat_too_much_are_refused(monkeypatch):
    stored = array("[{},{},{}]", properties={"a": "x" * 1000})

    monkeypatch.setattr(jsonbody, "SPLIT_BYTES_MAX", 3500)
    assert len(split_array(stored) or []) == 3
    monkeypatch.setattr(jsonbody, "SPLIT_BYTES_MAX", 3000)
    with pytest.raises(WireError, match="more than 3000 bytes"):
        split_array(stored)
