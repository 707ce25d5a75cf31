"""Answers of endpoints, well-formed and otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.webhooks.response import BODY_MAX, HEAD_MAX, AnswerReader, BadAnswer

WHOLE = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, True),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, True),
    "not modified": (b"HTTP/1.1 304\r\nContent-Length: 99\r\n\r\n", 304, True),
    "empty": (b"HTTP/1.1 202 \r\ncontent-length:0\r\n\r\n", 202, True),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2;x=y\r\nok\r\n0a\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
        200,
        True,
    ),
    "interim": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
        b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
        201,
        True,
    ),
    "close": (b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n", 200, False),
    "old": (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 200, False),
    "old kept": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
        200,
        True,
    ),
    "both framings": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        200,
        False,
    ),
    "same length twice": (
        b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        503,
        True,
    ),
}


def read(data, *, size=None):
    reader = AnswerReader()
    for at in range(0, len(data), size or len(data)):
        reader.feed(data[at : at + (size or len(data))])
    return reader


@pytest.mark.parametrize("size", [None, 1, 3], ids=["at once", "bytes", "threes"])
@pytest.mark.parametrize(("data", "status", "reusable"), WHOLE.values(), ids=WHOLE)
def test_a_complete_answer_is_read(data, status, reusable, size):
    reader = read(data, size=size)

    assert (reader.done, reader.status, reader.reusable) == (True, status, reusable)


def test_retry_after_is_kept():
    reader = read(b"HTTP/1.1 503 No\r\nRETRY-AFTER:  120 \r\nContent-Length: 0\r\n\r\n")

    assert reader.retry_after == "120"


def test_the_status_counts_from_the_end_of_the_head_on():
    reader = read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok")

    assert (reader.status, reader.done) == (200, False)
    reader.end()
    assert (reader.done, reader.reusable) == (True, False)


def test_a_body_without_a_length_ends_with_the_connection():
    reader = read(b"HTTP/1.1 200 OK\r\n\r\nsome text")

    assert not reader.done
    reader.end()
    assert (reader.done, reader.reusable) == (True, False)


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 70000",
        b"Content-Length: 999999999999",
        b"X: y",
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: chunked",
    ],
)
def test_no_more_than_64_kib_of_a_body_is_read(head):
    reader = AnswerReader()
    reader.feed(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
    chunked = b"chunked" in head
    sent = 0
    while not reader.done:
        reader.feed(b"400\r\n" + b"x" * 1024 + b"\r\n" if chunked else b"x" * 1024)
        sent += 1024

    assert sent <= BODY_MAX + 1024
    assert (reader.status, reader.reusable) == (200, False)


def test_an_endless_head_is_refused():
    head = b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * HEAD_MAX

    with pytest.raises(BadAnswer, match="over 16384 bytes"):
        read(head, size=100)


def test_endless_interim_answers_are_refused():
    with pytest.raises(BadAnswer, match="over 16384 bytes"):
        read(b"HTTP/1.1 100 Continue\r\n\r\n" * HEAD_MAX, size=1_000)


@pytest.mark.parametrize("line", [b"1;" + b"x" * 99_999, b"X: y\r\n" * 20_000], ids=["size", "t"])
def test_endless_chunk_lines_and_trailers_are_cut_off(line):
    reader = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

    reader.feed(b"0\r\n" + line if line.startswith(b"X") else line)

    assert (reader.done, reader.reusable) == (True, False)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9\r\n",
        b"220 smtp.example.com\r\n",
        b"+OK\r\n",
        b"\x15\x03\x01\x00\x02",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nNo colon\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n X: folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 101 Switch\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1e3\r\n\r\n",
        b"\r\n\r\n",
        b"{}",
    ],
    ids=ascii,
)
def test_what_is_no_answer_is_refused(data):
    with pytest.raises(BadAnswer):
        read(data)


@pytest.mark.parametrize("data", [b"", b"HTTP", b"HTTP/1.1 200 OK\r\nX: y\r\n"], ids=ascii)
def test_an_answer_that_is_cut_in_its_head_is_none(data):
    reader = read(data, size=4)

    with pytest.raises(BadAnswer, match="closed before"):
        reader.end()


def test_more_than_was_asked_for_makes_the_connection_useless():
    reader = read(WHOLE["length"][0] + b"HTTP/1.1 200 OK\r\n\r\n")

    assert (reader.done, reader.reusable) == (True, False)


PIECES = [piece for whole, _, _ in WHOLE.values() for piece in whole.splitlines(keepends=True)]


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=40), max_size=30))
def test_any_bytes_are_read_or_refused(pieces):
    reader = AnswerReader()
    try:
        for piece in pieces:
            reader.feed(piece)
        reader.end()
    except BadAnswer:
        return

    assert reader.done
    assert reader.status is not None
