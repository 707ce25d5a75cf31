"""`python -m qel check|match|explain`."""

import io
import json
import os
import subprocess
import sys

import pytest

from qel import __main__ as command_line


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments, given=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        code = command_line.main(arguments)
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def test_check_prints_the_canonical_text(run):
    assert run("check", "--type", "variables", "(quality=1)") == (0, "quality = 1\n", "")


def test_check_prints_json_if_asked(run):
    code, output, _ = run("check", "--type", "variables", "--json", "quality=1")

    assert (code, json.loads(output)) == (0, {"valid": True, "canonical": "quality = 1"})


def test_check_shows_where_a_filter_is_wrong(run):
    code, output, errors = run("check", "--type", "variables", "quality = 'high'")

    assert (code, output) == (1, "")
    assert errors.endswith("  quality = 'high'\n            ^\n")


def test_check_prints_errors_as_json_if_asked(run):
    code, output, _ = run("check", "--type", "variables", "--json", "quality =")

    assert code == 1
    answer = json.loads(output)
    assert answer["valid"] is False
    assert [(error["line"], error["column"]) for error in answer["errors"]] == [(1, 10)]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["check"],
        ["check", "true"],
        ["check", "--type", "colours", "true"],
        ["look", "--type", "variables", "true"],
    ],
)
def test_wrong_usage_exits_with_2(run, arguments):
    with pytest.raises(SystemExit) as caught:
        run(*arguments)

    assert caught.value.code == 2


def test_match_prints_the_lines_that_match_as_they_are(run):
    lines = b'{"quality": 1,  "x": "\xc3\xa9"}\r\n\n{"quality": 2}\n{"quality":1}'

    code, output, errors = run("match", "--type", "variables", "quality = 1", given=lines)

    assert (code, errors) == (0, "")
    assert output == '{"quality": 1,  "x": "é"}\n{"quality":1}\n'


def test_match_reads_a_file(run, tmp_path):
    messages = tmp_path / "messages.ndjson"
    messages.write_bytes(b'{"quality": 1}\n{"quality": 2}\n')

    code, output, _ = run("match", "--type", "variables", "quality = 2", str(messages))

    assert (code, output) == (0, '{"quality": 2}\n')


def test_a_file_that_cannot_be_read_is_an_error(run, tmp_path):
    code, output, errors = run("match", "--type", "variables", "true", str(tmp_path / "none"))

    assert (code, output) == (1, "")
    assert "No such file" in errors


def test_lines_that_are_no_message_are_reported_and_passed_over(run, monkeypatch):
    monkeypatch.setattr(command_line, "LINE_BYTES_MAX", 10_000)
    lines = [b"{", b"[1]", b"\xff", b"[" * 9_000, b"x" * 25_000, b"x" * 10_000, b'{"quality": 1}']

    code, output, errors = run("match", "--type", "variables", "true", given=b"\n".join(lines))

    assert (code, output) == (1, '{"quality": 1}\n')
    reports = errors.splitlines()
    assert [report.split(":")[0] for report in reports] == [f"line {n}" for n in range(1, 7)]
    assert reports[1] == "line 2: a message is a JSON object"
    assert reports[4] == "line 5: longer than 10000 bytes"


def test_a_last_line_that_is_too_long_and_has_no_end_is_reported(run, monkeypatch):
    monkeypatch.setattr(command_line, "LINE_BYTES_MAX", 10)

    code, _, errors = run("match", "--type", "variables", "true", given=b"x" * 25)

    assert (code, errors) == (1, "line 1: longer than 10 bytes\n")


def test_explain_says_why_each_line_does_or_does_not_match(run):
    lines = b'{"quality": 1}\n{"quality": 2}\n{}\n'

    code, output, _ = run("explain", "--type", "variables", "quality = 1", given=lines)

    assert code == 0
    assert output.splitlines() == [
        "line 1 matches: quality = 1 is true, quality is 1",
        "line 2 does not match: quality = 1 is false, quality is 2",
        "line 3 unknown, does not match: quality = 1 is unknown, quality is missing or null",
    ]


def test_explain_prints_json_if_asked(run):
    code, output, _ = run("explain", "--type", "variables", "--json", "quality = 1", given=b"{}\n")

    assert code == 0
    assert json.loads(output) == {
        "line": 1,
        "matches": None,
        "because": "quality = 1 is unknown, quality is missing or null",
    }


def test_a_reader_that_has_seen_enough_is_no_error(run, monkeypatch):
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "w") as closed_pipe:
        monkeypatch.setattr(sys, "stdout", closed_pipe)

        code, _, errors = run("match", "--type", "variables", "true", given=b"{}\n")

    assert (code, errors) == (0, "")


def test_the_module_runs_as_a_command_and_survives_a_closed_pipe(tmp_path):
    messages = tmp_path / "messages.ndjson"
    messages.write_bytes(b'{"quality": 1}\n' * 100_000)
    command = [sys.executable, "-m", "qel", "match", "--type", "variables", "true", str(messages)]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout.readline() == b'{"quality": 1}\n'
        running.stdout.close()
        errors = running.stderr.read()

    assert (running.returncode, errors) == (0, b"")
