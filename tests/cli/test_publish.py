"""`hotpath publish` against the running service."""

import json
import os
import pty
import subprocess

import pytest

from tests.cli.service import HOTPATH, ndjson, reading


def stored(service, count, topic="variables", **options):
    """The tenant's messages from the beginning, as a subscriber gets them."""
    arguments = [f"--{name}={value}" for name, value in options.items()]
    result = service.run(
        "subscribe", topic, "--start-from", "earliest", "--count", count, *arguments
    )
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(ndjson, id="ndjson"),
        pytest.param(json.dumps, id="array"),
        pytest.param(lambda messages: json.dumps(messages, indent=2), id="array over lines"),
    ],
)
def test_messages_arrive_as_they_were_written(service, tmp_path, form):
    messages = [reading(n) for n in range(5)]
    (tmp_path / "messages").write_text(form(messages))

    result = service.run("publish", "variables", tmp_path / "messages", "--json")

    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["accepted"] == 5
    assert stored(service, 5) == messages


def test_one_object_from_stdin(service):
    result = service.run("publish", "alarms", "-", stdin='{"objectId": "o", "alarm": "a"}')

    assert result.returncode == 0
    assert result.stdout.startswith("1 messages accepted in ")
    (message,) = stored(service, 1, "alarms")
    assert message.pop("timestamp").endswith("Z")
    assert message == {"objectId": "o", "alarm": "a"}


def test_properties_stand_beside_the_body_as_with_http(service):
    service.run("publish", "variables", stdin=ndjson([reading(1)]))

    result = service.run(
        "subscribe", "variables", "--start-from", "earliest", "--count", "1", "--meta"
    )

    shown = json.loads(result.stdout)
    assert shown["sequenceNumber"] >= 1
    assert shown["enqueuedTime"]
    assert shown["body"] == reading(1)
    assert shown["applicationProperties"] == {**reading(1), "ability-messagetype": "timeSeries"}


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ('{"objectId": ', "line 3: no JSON"),
        ("[1, 2]", "line 3: a message is a JSON object"),
        ('{"objectId": "x"}', "line 3: variables need the property variable and value"),
    ],
    ids=["cut", "array", "incomplete"],
)
def test_bad_line_is_named_and_what_stands_before_it_is_accepted(service, bad, complaint):
    before = [reading(1), reading(2)]
    text = ndjson(before) + bad + "\n" + ndjson([reading(4)])

    result = service.run("publish", "variables", stdin=text)

    assert result.returncode == 1
    assert complaint in result.stderr
    assert "2 messages were accepted" in result.stderr
    assert stored(service, 2) == before


def test_message_over_the_limit_fails(service):
    text = ndjson([reading(1, note="x" * 2_000_000)])

    result = service.run("publish", "variables", stdin=text)

    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "0 messages were accepted" in result.stderr


def test_missing_file_fails(service, tmp_path):
    result = service.run("publish", "variables", tmp_path / "none")

    assert result.returncode == 1
    assert f"cannot read {tmp_path / 'none'}: No such file" in result.stderr


def test_token_without_the_right_to_publish_is_refused(service):
    token = service.run("token", "--scope", "hotpath.subscribe").stdout.strip()

    result = service.run("publish", "variables", "--token", token, stdin=ndjson([reading(1)]))

    assert result.returncode == 1
    assert "hotpath.publish" in result.stderr


def test_expired_token_is_refused(service):
    token = service.run("token", "--minutes", "-5").stdout.strip()

    result = service.run("list", "--token", token)

    assert result.returncode == 1
    assert "expired" in result.stderr
    assert "--token or HOTPATH_TOKEN" in result.stderr


def test_progress_is_shown_on_a_terminal_only(service, tmp_path):
    path = tmp_path / "messages"
    path.write_text(ndjson([reading(n) for n in range(3_000)]))
    ours, theirs = pty.openpty()

    process = subprocess.Popen(
        [*HOTPATH, "publish", "variables", path],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=service.environment(TERM="xterm"),
    )
    os.close(theirs)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    out, _ = process.communicate(timeout=30)
    os.close(ours)

    assert process.returncode == 0
    assert out.startswith(b"3,000 messages accepted")
    assert b"publishing" in shown
    assert b"/s" in shown


def _read(descriptor):
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # how Linux says that the other side of a terminal is closed
        return b""
