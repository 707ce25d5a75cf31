"""Messages as people see them."""

import pytest

from hotpath.cli.output import clean, message_text
from hotpath.client.message import FeedMessage
from hotpath.model.names import Topic

AT = "2026-03-01T10:20:30.456Z"


@pytest.mark.parametrize(
    ("topic", "body", "line"),
    [
        pytest.param(
            Topic.VARIABLES,
            {"objectId": "p1", "variable": "flow", "value": 1.5, "quality": 192, "timestamp": AT},
            "10:20:30.456  p1             flow = 1.5  good",
            id="variable",
        ),
        pytest.param(
            Topic.VARIABLES,
            {"objectId": "p1", "variable": "state", "value": "on", "quality": 7},
            "-  p1             state = on  quality 7",
            id="variable of odd quality and no time",
        ),
        pytest.param(
            Topic.ALARMS,
            {"objectId": "p1", "alarm": "high", "value": {"state": "raised", "limit": 8}},
            "-  p1             high raised  limit=8",
            id="alarm",
        ),
        pytest.param(
            Topic.EVENTS,
            {"objectId": "p1", "event": "started", "value": {"operator": "a"}, "timestamp": AT},
            "10:20:30.456  p1             started  operator=a",
            id="event",
        ),
        pytest.param(
            Topic.PLATFORM_EVENTS,
            {"eventType": "objectModel.updated", "severity": "info", "objectId": "p1"},
            "-  p1             objectModel.updated  severity=info",
            id="platform event",
        ),
        pytest.param(Topic.VARIABLES, {}, "-  -              null = null", id="nothing at all"),
        pytest.param(
            Topic.VARIABLES,
            {"objectId": 5, "variable": ["a"], "value": {"x": None}, "quality": {}},
            '-  5              ["a"] = {"x": null}  quality {}',
            id="odd types",
        ),
    ],
)
def test_message_as_a_line(topic, body, line):
    assert message_text(topic, FeedMessage(body)).plain == line


@pytest.mark.parametrize("body", [None, 7, "text", b"\x00", ["a"]], ids=repr)
@pytest.mark.parametrize("topic", [Topic.VARIABLES, Topic.ALARMS, Topic.PLATFORM_EVENTS])
def test_message_of_any_body_has_a_line(topic, body):
    assert message_text(topic, FeedMessage(body)).plain


def test_publisher_cannot_drive_the_terminal():
    assert clean("a\x1b[31mred\r\nb") == "a�[31mred��b"


def test_endless_value_is_cut():
    assert len(clean("x" * 10_000)) == 500
