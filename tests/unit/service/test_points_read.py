"""What publishers say about points."""

import pytest

from hotpath.model.errors import Invalid
from hotpath.service.points_read import (
    ID_CHARS_MAX,
    PointValue,
    number_text,
    point_of_message,
    read_point,
)
from hotpath.wire.encoder import encode
from hotpath.wire.jsonbody import encode_json
from hotpath.wire.values import Float32, Int, Symbol, Timestamp, UByte
from qel import DateTime

NOW_MS = 1_700_000_000_000


def read(**found):
    return read_point(found, now_ms=NOW_MS, chars_max=100)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("22", "22"),
        ("", ""),
        (" Ölpumpe ✓ ", " Ölpumpe ✓ "),
        (22, "22"),
        (22.0, "22"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (1e21, "1e21"),
        (1e-7, "1e-7"),
        (1.5e300, "1.5e300"),
        (9007199254740993, "9007199254740993"),
        (True, "true"),
        (False, "false"),
    ],
)
def test_values_become_strings_in_their_shortest_form(value, text):
    assert read(id="p", value=value) == PointValue("p", text, 0, NOW_MS)


@pytest.mark.parametrize(
    ("timestamp", "at_ms"),
    [
        ("2025-12-03T06:09:21.915Z", 1_764_742_161_915),
        ("2025-12-03T08:09:21.915999+02:00", 1_764_742_161_915),
        (DateTime.from_milliseconds(5), 5),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
    ],
)
def test_timestamps_are_kept_in_milliseconds(timestamp, at_ms):
    assert read(id="p", value=1, timestamp=timestamp).at_ms == at_ms


@pytest.mark.parametrize(
    ("found", "pointers"),
    [
        pytest.param({}, ["/id", "/value"], id="nothing"),
        pytest.param({"id": "", "value": 1}, ["/id"], id="empty-id"),
        pytest.param({"id": 5, "value": 1}, ["/id"], id="number-id"),
        pytest.param({"id": "a\nb", "value": 1}, ["/id"], id="line-break-in-id"),
        pytest.param({"id": "x" * (ID_CHARS_MAX + 1), "value": 1}, ["/id"], id="long-id"),
        pytest.param({"id": "p", "value": None}, ["/value"], id="null"),
        pytest.param({"id": "p", "value": [1]}, ["/value"], id="list"),
        pytest.param({"id": "p", "value": {"a": 1}}, ["/value"], id="object"),
        pytest.param({"id": "p", "value": float("nan")}, ["/value"], id="nan"),
        pytest.param({"id": "p", "value": float("inf")}, ["/value"], id="infinity"),
        pytest.param({"id": "p", "value": "x" * 101}, ["/value"], id="long-value"),
        pytest.param({"id": "p", "value": 1, "qualityOfValue": "0"}, ["/qualityOfValue"], id="q1"),
        pytest.param({"id": "p", "value": 1, "qualityOfValue": True}, ["/qualityOfValue"], id="q2"),
        pytest.param({"id": "p", "value": 1, "qualityOfValue": None}, ["/qualityOfValue"], id="q3"),
        pytest.param({"id": "p", "value": 1, "timestamp": "noon"}, ["/timestamp"], id="no-time"),
        pytest.param({"id": "p", "value": 1, "timestamp": 5}, ["/timestamp"], id="number-time"),
        pytest.param(
            {"id": "p", "value": 1, "timestamp": "0001-01-01T00:00:00+14:00"},
            ["/timestamp"],
            id="before-year-1",
        ),
        pytest.param(
            {"id": 1, "value": [], "qualityOfValue": "", "timestamp": ""},
            ["/id", "/value", "/qualityOfValue", "/timestamp"],
            id="everything",
        ),
    ],
)
def test_every_fault_is_told_with_its_place(found, pointers):
    with pytest.raises(Invalid) as refused:
        read(**found)

    assert [violation.pointer for violation in refused.value.violations] == pointers


def of_message(stored):
    return point_of_message(stored, now_ms=NOW_MS, chars_max=100)


def amqp_value(value) -> bytes:
    return b"\x00\x53\x77" + encode(value)


def test_a_json_body_is_read():
    stored = encode_json(b'{"id":"p","value":21.5,"qualityOfValue":3}', {"id": "ignored"})

    assert of_message(stored) == PointValue("p", "21.5", 3, NOW_MS)


def test_an_amqp_map_is_read_with_its_types():
    body = {
        "id": Symbol("p"),
        "value": Int(-7),
        "qualityOfValue": UByte(1),
        "timestamp": Timestamp(9),
    }

    assert of_message(amqp_value(body)) == PointValue("p", "-7", 1, 9)
    assert of_message(amqp_value({"id": "p", "value": Float32(0.5)})).value == "0.5"
    assert of_message(amqp_value({"id": "p", "value": True})).value == "true"


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(encode_json(b"[]", {}), id="array"),
        pytest.param(encode_json(b"", {}), id="empty"),
        pytest.param(encode_json(b"\xff{", {}), id="no-json"),
        pytest.param(encode_json(b"[" * 100_000, {}), id="deep"),
        pytest.param(amqp_value(["id"]), id="list"),
        pytest.param(amqp_value(5), id="number"),
        pytest.param(amqp_value({"id": "p", "value": b"x"}), id="binary-value"),
        pytest.param(b"", id="no-message"),
        pytest.param(b"\x00\x53\x77\xd1\x00\x00\x00\xff", id="damaged"),
    ],
)
def test_other_bodies_are_refused(stored):
    with pytest.raises(Invalid):
        of_message(stored)


@pytest.mark.parametrize("value", [0.1 + 0.2, 1e16, 123456789.125, 5e-324, -1.5e-9, 1e22, 2.0**60])
def test_a_number_survives_its_text(value):
    assert float(number_text(value)) == value
